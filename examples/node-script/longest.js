// node longest.js FILE: finds the line with the most words, and gives the number to the steps after it.
const fs = require("node:fs");

const lines = fs.readFileSync(process.argv[2], "utf8").split("\n");
const counts = lines.map((line) => line.split(/\s+/).filter(Boolean).length);
const most = Math.max(...counts);
console.log(`longest line: ${most} words: ${lines[counts.indexOf(most)]}`);
if (process.env.GITHUB_OUTPUT) {
  fs.appendFileSync(process.env.GITHUB_OUTPUT, `words=${most}\n`);
}
