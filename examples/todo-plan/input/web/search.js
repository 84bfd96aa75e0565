// The search box of the catalogue.

function showResults(box, items) {
  // FIXME: item names go into the page unescaped, so a name can carry a script
  box.innerHTML = items.map((item) => `<li>${item.name}</li>`).join("");
}

async function search(text) {
  // TODO: wait until the person stops typing; today each key asks the server
  const answer = await fetch(`/items?q=${text}`); // TODO: encode the text
  return answer.json();
}
