// The controller's client: plain requests with the token, to the configured URL and nowhere else.
//
// node's own http is used: it follows no redirects, asks no proxy, and lets an answer take as long as the command
// that it is about.
import http from 'node:http';
import https from 'node:https';

/** Most bytes of an answer; two outputs of 8 MiB, in which every byte is escaped, fit. */
const MAX_ANSWER = 128 * 1024 * 1024;

/** An answer that is not the one that was hoped for, or none. */
export class ControllerError extends Error {
  constructor(message, status = null, body = null) {
    super(message);
    this.status = status;
    this.body = body;
  }
}

export class Client {
  #url;
  #token;
  #signal;

  /** `signal` ends requests that are under way. */
  constructor({ url, token, signal }) {
    this.#url = url;
    this.#token = token;
    this.#signal = signal;
  }

  /** The same without a signal: for what has to be done after a cancellation. */
  unstoppable() {
    return new Client({ url: this.#url, token: this.#token });
  }

  /** Spawns sandboxes, all or none; gives their ids. */
  async spawn({ snapshotTag, n, perChildNetns, memoryLimitMib, prewarm }) {
    const body = {
      snapshot_tag: snapshotTag,
      n,
      per_child_netns: perChildNetns,
      memory_limit_mib: memoryLimitMib,
      prewarm,
    };
    const answer = await this.#ask('POST', '/v1/sandboxes', body, 1800);
    const ids = Array.isArray(answer) ? answer.map((one) => one?.id) : [];
    if (ids.length !== n || !ids.every((id) => typeof id === 'string' && /^[A-Za-z0-9_-]{1,128}$/.test(id))) {
      throw new ControllerError(`the controller did not answer with ${n} sandboxes`);
    }
    return ids;
  }

  /** Runs a command; gives `{exit_code, stdout, stderr}` and what else the controller says. */
  async exec(id, args, timeoutSecs) {
    const answer = await this.#ask('POST', `/v1/sandboxes/${id}/exec`, { args, timeout_secs: timeoutSecs }, timeoutSecs + 60);
    if (!Number.isInteger(answer?.exit_code)) {
      throw new ControllerError('the controller did not answer with an exit code');
    }
    return answer;
  }

  /** Deletes a sandbox; one that is gone already is fine. */
  async remove(id) {
    try {
      await this.#ask('DELETE', `/v1/sandboxes/${id}`, null, 60);
    } catch (error) {
      if (error.status !== 404) throw error;
    }
  }

  async #ask(method, path, body, timeoutSecs) {
    const { status, text } = await this.#request(method, path, body, timeoutSecs);
    let value = null;
    try {
      value = text === '' ? null : JSON.parse(text);
    } catch {
      // the framework's own errors are plain text
    }
    if (status >= 200 && status < 300) return value;
    const why = typeof value?.error === 'string' ? value.error : text.slice(0, 500).trim();
    throw new ControllerError(`${method} ${path}: ${status}${why && ` ${why}`}`, status, value);
  }

  #request(method, path, body, timeoutSecs) {
    const data = body === null ? null : Buffer.from(JSON.stringify(body));
    const base = this.#url.pathname.replace(/\/+$/, '');
    const options = {
      method,
      protocol: this.#url.protocol,
      hostname: this.#url.hostname.replace(/^\[|\]$/g, ''),
      port: this.#url.port || undefined,
      path: `${base}${path}`,
      headers: {
        Authorization: `Bearer ${this.#token}`,
        Accept: 'application/json',
        ...(data && { 'Content-Type': 'application/json', 'Content-Length': data.length }),
      },
      // a connection of its own: one that was kept may be closed just when it is used
      agent: false,
      signal: this.#signal,
    };
    const { request } = this.#url.protocol === 'https:' ? https : http;
    return new Promise((resolve, reject) => {
      const fail = (error) => {
        clearTimeout(timer);
        reject(error instanceof ControllerError ? error : new ControllerError(`${method} ${path}: ${error.message}`));
      };
      const call = request(options, (answer) => {
        const parts = [];
        let size = 0;
        answer.on('data', (part) => {
          size += part.length;
          if (size > MAX_ANSWER) call.destroy(new ControllerError(`${method} ${path}: the answer is too long`));
          else parts.push(part);
        });
        answer.on('error', fail);
        answer.on('end', () => {
          clearTimeout(timer);
          if (!answer.complete) fail(new Error('the answer was cut off'));
          else resolve({ status: answer.statusCode, text: Buffer.concat(parts).toString('utf8') });
        });
      });
      const timer = setTimeout(() => call.destroy(new Error(`no answer within ${timeoutSecs} s`)), timeoutSecs * 1000);
      call.on('error', fail);
      call.end(data ?? undefined);
    });
  }
}
