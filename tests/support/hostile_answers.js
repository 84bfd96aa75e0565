// Puts attacks into each text of each answer that a page gets. The settings come from `hostile_answers.py`.
(() => {
  const { short, long, words, own, ids, nothing, answers } = SETTINGS;
  const id = new RegExp(ids);
  let count = 0;
  const attack = () => {
    count += 1;
    const first = count % short.length;
    const all = [...short.slice(first), ...short.slice(0, first), ...(count % 16 === 0 ? [long[count / 16 % long.length]] : [])];
    return all.join("\n\n") + count;
  };
  const change = (value, name) => {
    if (typeof value === "string") {
      const isNeeded = value === "" || id.test(value) || own.includes(name) || words[name]?.includes(value);
      return isNeeded ? value : attack();
    }
    if (value === null && nothing.includes(name) && !own.includes(name) && !name.endsWith("_id")) return attack();
    if (Array.isArray(value)) return value.map((each) => change(each, name));
    if (value === null || typeof value !== "object") return value;
    const changed = Object.entries(value).map(([key, each]) => [key in words ? key : attack(), change(each, key)]);
    return Object.fromEntries(changed);
  };
  const real = window.fetch;
  window.answersOnTheirWay = 0;
  window.fetch = async (path, options) => {
    window.answersOnTheirWay += 1;
    try {
      return await fetchChanged(path, options);
    } finally {
      // The page goes on with it before anybody who looks at the number.
      setTimeout(() => { window.answersOnTheirWay -= 1; }, 50);
    }
  };
  const fetchChanged = async (path, options) => {
    const answer = await real(path, options);
    const isJson = answer.headers.get("Content-Type")?.includes("json") ?? false;
    if (!isJson || String(path).includes("openapi")) return answer;
    const given = await answer.json();
    const example = Object.entries(answers).find(([pattern]) => new RegExp(pattern).test(path))?.[1] ?? {};
    for (const [name, items] of Object.entries(answer.ok ? example : {})) {
      if (Array.isArray(items) && Array.isArray(given[name]) && given[name].length === 0) given[name] = items;
    }
    const body = JSON.stringify(change(given, ""));
    return new Response(body, { status: answer.status, headers: answer.headers });
  };
})();
