// The step's outputs, through the file that GITHUB_OUTPUT names.
import { appendFileSync } from 'node:fs';
import { randomBytes } from 'node:crypto';

/** Most bytes of an output: what servers take. */
const MAX_OUTPUT = 1024 * 1024;

/** Writes one output. The delimiter cannot be guessed, so no value ends it. */
export function setOutput(env, name, value) {
  const file = env.GITHUB_OUTPUT;
  if (!file) return;
  const delimiter = `ghadelimiter_${randomBytes(16).toString('hex')}`;
  appendFileSync(file, `${name}<<${delimiter}\n${value}\n${delimiter}\n`);
}

/** The results as JSON of at most 1 MiB. Where they are longer, the ends of the longest outputs are kept, and their
 * entries say `truncated`. */
export function resultsJson(results, limit = MAX_OUTPUT) {
  let json = JSON.stringify(results);
  for (let room = limit; Buffer.byteLength(json) > limit && room > 0; room = Math.floor(room / 2)) {
    json = JSON.stringify(results.map((one) => shortened(one, room)));
  }
  return { json, truncated: json !== JSON.stringify(results) };
}

function shortened(one, room) {
  const [stdout, stderr] = [one.stdout.slice(-room), one.stderr.slice(-room)];
  if (stdout.length === one.stdout.length && stderr.length === one.stderr.length) return one;
  return { ...one, stdout: stdout.toWellFormed?.() ?? stdout, stderr: stderr.toWellFormed?.() ?? stderr, truncated: true };
}
