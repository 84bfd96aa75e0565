// Gives what is wrong with a page, of a pattern of hidden characters and the names of elements that may be there.
((hidden, allowed) => {
  const found = [];
  const isHidden = new RegExp(hidden, "u");
  for (const each of document.querySelectorAll("body, body *")) {
    if (!allowed.includes(each.localName)) found.push(`an element ${each.localName}`);
    for (const { name, value } of each.attributes) {
      if (/^on|^srcdoc$|^formaction$/i.test(name)) found.push(`${each.localName} ${name}=${value.slice(0, 80)}`);
      if (isHidden.test(value) && each.localName !== "option") found.push(`${each.localName} ${name} holds what nobody sees`);
      if (name === "style" && each.closest(".virtual") === null) found.push(`a style on ${each.localName}`);
    }
    // Of a choice the text is shown, and the value is what is chosen.
    if (!/option|select/.test(each.localName) && isHidden.test(each.value ?? "")) found.push(`a ${each.localName} holds what nobody sees`);
    if (each.localName === "a") {
      const isOwn = each.origin === location.origin && (each.pathname.startsWith("/console/"));
      const isOut = /^https?:$/.test(each.protocol) && each.origin !== location.origin;
      if (!isOwn && !(isOut && each.rel === "noopener noreferrer nofollow")) found.push(`a link to ${each.href}`);
    }
  }
  const shadow = document.querySelector(".editor")?.shadowRoot?.querySelector(".cm-content")?.innerText ?? "";
  const text = document.body.innerText + shadow;
  if (isHidden.test(text)) found.push(`the page shows ${JSON.stringify(text.match(isHidden)[0])}`);
  if (document.documentElement.scrollWidth > innerWidth) found.push(`${document.documentElement.scrollWidth} pixels wide`);
  if (document.querySelector("main").getBoundingClientRect().top > innerHeight / 2) found.push("the view is out of sight");
  for (const word of document.querySelectorAll("main button, main .outcome, main .phase")) {
    if (/^\w{1,10}$/.test(word.innerText.trim()) && word.getBoundingClientRect().height > 50) found.push(`${word.innerText} is broken`);
  }
  for (const row of document.querySelectorAll(".row, .step, .event, .slot")) {
    const box = row.getBoundingClientRect();
    for (const each of row.children) {
      const inside = each.getBoundingClientRect();
      const isOver = each.scrollWidth > each.clientWidth + 1 && getComputedStyle(each).overflowX === "visible" && each.clientWidth > 0;
      if (inside.right > box.right + 1 || inside.bottom > box.bottom + 1 || isOver) {
        found.push(`${row.className}: ${each.localName}.${each.className} does not stay inside`);
      }
    }
  }
  return [...new Set(found)].slice(0, 20);
})
