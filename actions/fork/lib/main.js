// The run: spawn, execute everywhere at once, report, delete.
//
//   inputs ──▶ spawn (all or none) ──▶ exec in each ──▶ log and outputs ──▶ exit code
//                  │                        │ error, cancel
//                  └────────────────────────┴──▶ delete each, unless cleanup is false
import { Client, ControllerError } from './client.js';
import { InputError, readInputs } from './inputs.js';
import { Log } from './log.js';
import { resultsJson, setOutput } from './output.js';

/** Bytes of one argument: Linux takes 128 KiB. */
const MAX_ARGUMENT = 96 * 1024;
/** Writes the script, whose base64 stands in the arguments, to a file and becomes its shell. */
const LAUNCHER = 'f=$(mktemp) && printf %s "$@" | base64 -d > "$f" && exec sh "$f"';

/** Runs the step; gives its exit code. `onCancel` is given what ends the run. */
export async function main({ env, print, onCancel = () => {} }) {
  const log = new Log(print);
  // before anything can go wrong: an error's text may hold it
  const token = (env.INPUT_TOKEN ?? '').trim();
  if (token) log.mask(token);
  let inputs;
  try {
    inputs = readInputs(env);
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    log.error(error.message);
    return 1;
  }
  const cancelled = new AbortController();
  onCancel((reason) => cancelled.abort(reason));
  if (inputs.url.protocol === 'http:' && !isLocal(inputs.url.hostname)) {
    log.warning(`the token goes to ${inputs.url.host} unencrypted; with https it would not`);
  }
  return run(inputs, new Client({ ...inputs, signal: cancelled.signal }), log, env, cancelled.signal);
}

async function run(inputs, client, log, env, signal) {
  let ids = [];
  try {
    log.say(`spawning ${inputs.n} of ${inputs.snapshotTag} at ${inputs.url.host}`);
    ids = await client.spawn(inputs);
    const results = await Promise.all(ids.map((id, index) => runIn(client, id, index, inputs)));
    return report(results, inputs, log, env, signal);
  } catch (error) {
    if (!(error instanceof ControllerError)) throw error;
    if (signal.aborted) log.error('cancelled');
    else log.error(error.message);
    setOutput(env, 'results', '[]');
    setOutput(env, 'any_failed', 'true');
    return 1;
  } finally {
    if (inputs.cleanup) await cleanUp(client.unstoppable(), ids, log);
    else if (ids.length > 0) log.say(`left there: ${ids.join(' ')}`);
  }
}

/** The command's arguments in the sandbox with this number. */
export function commandArgs(inputs, index) {
  const prefix = ['env', `SANDBOX_INDEX=${index}`, 'sh', '-c'];
  if (inputs.command !== null) return [...prefix, inputs.command];
  const encoded = Buffer.from(inputs.script).toString('base64');
  return [...prefix, LAUNCHER, 'sh', ...(encoded.match(new RegExp(`.{1,${MAX_ARGUMENT}}`, 'g')) ?? [])];
}

/** Never fails: a sandbox that could not be asked is a failed one. */
async function runIn(client, id, index, inputs) {
  const text = (value) => (typeof value === 'string' ? value : '');
  try {
    const answer = await client.exec(id, commandArgs(inputs, index), inputs.execTimeoutSecs);
    return {
      how: ended(answer),
      result: { id, exit_code: answer.exit_code, stdout: text(answer.stdout), stderr: text(answer.stderr) },
    };
  } catch (error) {
    if (!(error instanceof ControllerError)) throw error;
    const stderr = `${text(error.body?.stderr)}${error.message}\n`;
    return { how: 'no exit code', result: { id, exit_code: -1, stdout: text(error.body?.stdout), stderr } };
  }
}

function ended(answer) {
  if (answer.timed_out === true) return 'timed out';
  if (Number.isInteger(answer.signal)) return `signal ${answer.signal}`;
  return `exit code ${answer.exit_code}`;
}

function report(all, inputs, log, env, signal) {
  all.forEach(({ how, result }, index) => {
    log.group(`sandbox ${index} (${result.id}): ${how}`, [
      { text: result.stdout },
      { name: 'standard error', text: result.stderr },
    ]);
  });
  const failed = all.flatMap(({ how, result }, index) => (result.exit_code === 0 ? [] : [`${index} (${how})`]));
  const { json, truncated } = resultsJson(all.map(({ result }) => result));
  if (truncated) log.warning('the output `results` would be longer than 1 MiB: of long outputs it has the ends only');
  setOutput(env, 'results', json);
  setOutput(env, 'any_failed', String(failed.length > 0));
  if (signal.aborted) {
    log.error('cancelled');
    return 1;
  }
  if (failed.length === 0) {
    log.say(`the command succeeded in ${all.length === 1 ? 'the sandbox' : `all ${all.length} sandboxes`}`);
    return 0;
  }
  const shown = failed.length > 20 ? [...failed.slice(0, 20), '…'] : failed;
  const text = `the command failed in ${failed.length} of ${all.length} sandboxes: ${shown.join(', ')}`;
  if (!inputs.failOnNonzero) {
    log.warning(text);
    return 0;
  }
  log.error(text);
  return 1;
}

async function cleanUp(client, ids, log) {
  const ends = await Promise.allSettled(ids.map((id) => client.remove(id)));
  for (const end of ends) {
    if (end.status === 'rejected') log.warning(`a sandbox may be left: ${end.reason.message}`);
  }
}

function isLocal(hostname) {
  return hostname === 'localhost' || hostname === '[::1]' || /^127\.\d+\.\d+\.\d+$/.test(hostname);
}
