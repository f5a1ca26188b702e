// A step of the tests: the action's run with an environment, a log and an output file of its own.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { main } from '../lib/main.js';
import { TOKEN } from './server.js';

/** Runs the action; gives `{code, log, outputs}`. */
export async function step(server, inputs, { onCancel } = {}) {
  const dir = mkdtempSync(join(tmpdir(), 'fork-action-'));
  const file = join(dir, 'output');
  writeFileSync(file, '');
  const env = { GITHUB_OUTPUT: file };
  const all = { url: server.url, token: TOKEN, snapshot_tag: 'standard', ...inputs };
  for (const [name, value] of Object.entries(all)) env[`INPUT_${name.toUpperCase()}`] = value;
  let log = '';
  const code = await main({ env, print: (text) => (log += text), onCancel });
  const outputs = readOutputs(readFileSync(file, 'utf8'));
  rmSync(dir, { recursive: true });
  return { code, log, outputs };
}

/** What a runner reads from the file. */
export function readOutputs(text) {
  const outputs = {};
  const lines = text.split('\n');
  while (lines.length > 0) {
    const head = /^([^=<]+)<<(.+)$/.exec(lines.shift());
    if (!head) continue;
    const value = [];
    while (lines.length > 0 && lines[0] !== head[2]) value.push(lines.shift());
    lines.shift();
    outputs[head[1]] = value.join('\n');
  }
  return outputs;
}

/** What a runner takes for workflow commands, stopped ones left out: by the rules of Forgejo's and of GitHub's. */
export function commands(log) {
  const found = [];
  let stopped = null;
  for (const row of log.split('\n')) {
    const bare = row.replace(/\x1b\[[0-?]*[ -/]*[@-~]/g, '').trim();
    const command = /^::([^ :]+)(?: [^:]*)?::(.*)$/.exec(bare);
    if (stopped !== null) {
      if (bare === `::${stopped}::`) stopped = null;
    } else if (command?.[1] === 'stop-commands') {
      stopped = command[2];
    } else if (command || /##\[/.test(bare)) {
      found.push(command ? { name: command[1], text: command[2] } : { name: '##', text: bare });
    }
  }
  return found;
}
