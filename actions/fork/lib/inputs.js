// The inputs of the step, checked: what comes out of here can be used as it is.

/** An input that cannot be used; its message says which, and never repeats the token. */
export class InputError extends Error {}

/** Most bytes of a script: it travels in the arguments of a command. */
const MAX_SCRIPT = 1024 * 1024;

/** Reads and checks all inputs. */
export function readInputs(env) {
  const text = (name) => (env[`INPUT_${name.toUpperCase()}`] ?? '').trim();
  const required = (name) => {
    const value = text(name);
    if (value === '') throw new InputError(`the input ${name} is required`);
    return value;
  };
  const number = (name, fallback, least, most) => {
    const value = text(name) || String(fallback);
    const parsed = /^\d{1,9}$/.test(value) ? Number(value) : NaN;
    if (!(parsed >= least && parsed <= most)) {
      throw new InputError(`the input ${name} is a number from ${least} to ${most}, not ${JSON.stringify(value)}`);
    }
    return parsed;
  };
  const flag = (name, fallback) => {
    const value = text(name).toLowerCase() || String(fallback);
    if (value !== 'true' && value !== 'false') {
      throw new InputError(`the input ${name} is true or false, not ${JSON.stringify(value)}`);
    }
    return value === 'true';
  };

  const command = text('command');
  // white space at the ends of a script may belong to a here-document
  const script = env.INPUT_SCRIPT ?? '';
  if ((command === '') === (script.trim() === '')) {
    throw new InputError('exactly one of the inputs command and script is needed');
  }
  if (Buffer.byteLength(script) > MAX_SCRIPT) throw new InputError('the input script is longer than 1 MiB');
  return {
    url: controllerUrl(required('url')),
    token: bearer(required('token')),
    snapshotTag: required('snapshot_tag'),
    command: command === '' ? null : command,
    script: command === '' ? script : null,
    n: number('n', 1, 1, 1000),
    perChildNetns: flag('per_child_netns', false),
    memoryLimitMib: number('memory_limit_mib', 256, 1, 999999999),
    prewarm: flag('prewarm', false),
    execTimeoutSecs: number('exec_timeout_secs', 300, 1, 86400),
    failOnNonzero: flag('fail_on_nonzero', true),
    cleanup: flag('cleanup', true),
  };
}

function controllerUrl(text) {
  let url;
  try {
    url = new URL(text);
  } catch {
    throw new InputError('the input url is no URL; it looks like http://host:8889');
  }
  if (url.protocol !== 'http:' && url.protocol !== 'https:') {
    throw new InputError('the input url begins with http:// or https://');
  }
  if (url.username || url.password || url.search || url.hash) {
    throw new InputError('the input url has a user, a query or a fragment; it looks like http://host:8889');
  }
  return url;
}

function bearer(token) {
  // anything else could end the header that it stands in
  if (!/^[\x21-\x7e]+$/.test(token)) throw new InputError('the input token has spaces or characters that are not ASCII');
  return token;
}
