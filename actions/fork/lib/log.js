// What is printed to the step's log. A sandbox's output is foreign text: it must not become a workflow command.
//
// Three things keep it from that, and each alone would do: commands are stopped with a token that was drawn after
// the output was there, control sequences are taken out, and what begins a command is broken up.
import { randomBytes } from 'node:crypto';

const CONTROL_SEQUENCES = /\x1b\[[0-?]*[ -/]*[@-~]|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b[ -/]*[0-~]/g;
// all control characters but the tab; marks that have no width, or change the direction
const CONTROLS = /[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;

/** The rows of a sandbox's output, none of which is a workflow command. */
export function rows(text) {
  const clean = text.replace(/\r\n?/g, '\n').replace(CONTROL_SEQUENCES, '').replace(CONTROLS, '');
  const all = clean.split('\n');
  if (all.at(-1) === '') all.pop();
  return all.map((row) => row.replace(/^(\s*):(?=:)/, '$1:\u200b').replace(/##(?=\[)/g, '##\u200b'));
}

/** Escapes what stands behind the `::` of a workflow command. */
export function escapeData(text) {
  return text.replace(/%/g, '%25').replace(/\r/g, '%0D').replace(/\n/g, '%0A');
}

export class Log {
  #print;

  constructor(print) {
    this.#print = print;
  }

  /** Masks a value from here on. */
  mask(value) {
    this.#command('add-mask', value);
  }

  warning(text) {
    this.#command('warning', rows(text).join('\n'));
  }

  error(text) {
    this.#command('error', rows(text).join('\n'));
  }

  /** A row of our own; foreign text in it is made harmless. */
  say(text) {
    for (const row of rows(text)) this.#print(`${row}\n`);
  }

  /** A group with foreign rows in it. */
  group(title, parts) {
    const token = randomBytes(16).toString('hex');
    this.#command('group', rows(title).join(' '));
    this.#print(`::stop-commands::${token}\n`);
    for (const { name, text } of parts) {
      const all = rows(text);
      if (all.length > 0 && name) this.#print(`${name}:\n`);
      for (const row of all) this.#print(`${row}\n`);
    }
    this.#print(`::${token}::\n`);
    this.#command('endgroup', '');
  }

  #command(name, text) {
    this.#print(`::${name}::${escapeData(text)}\n`);
  }
}
