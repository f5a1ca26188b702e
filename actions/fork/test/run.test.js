// The run against a controller of the tests.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { describe, it } from 'node:test';

import { startServer, TOKEN } from './server.js';
import { commands, step } from './step.js';

async function withServer(options, test) {
  const server = await startServer(options);
  try {
    return await test(server);
  } finally {
    server.close();
  }
}

/** Runs what a sandbox is asked to run, here. */
function execute(args) {
  const [program, ...rest] = args;
  return execFileSync(program, rest, { encoding: 'utf8' });
}

describe('the run', () => {
  it('spawns with the inputs, executes in each, gives the results in order, deletes', async () => {
    const exec = async (index, body) => {
      // the first answers last
      await new Promise((resolve) => setTimeout(resolve, 30 - 10 * index));
      return { stdout: execute(body.args), stderr: '', exit_code: 0 };
    };
    await withServer({ exec }, async (server) => {
      const inputs = { command: 'echo "i am $SANDBOX_INDEX"', n: '3', per_child_netns: 'true', memory_limit_mib: '128' };
      const { code, log, outputs } = await step(server, inputs);
      assert.equal(code, 0, log);
      assert.deepEqual(server.calls('POST', '/v1/sandboxes')[0].body, {
        snapshot_tag: 'standard', n: 3, per_child_netns: true, memory_limit_mib: 128, prewarm: false,
      });
      assert.deepEqual(
        JSON.parse(outputs.results),
        [0, 1, 2].map((at) => ({ id: `sb-${at}`, exit_code: 0, stdout: `i am ${at}\n`, stderr: '' })),
      );
      assert.equal(outputs.any_failed, 'false');
      assert.deepEqual(server.deleted(), ['sb-0', 'sb-1', 'sb-2']);
      assert.deepEqual(server.calls('POST', '/exec').map((one) => one.body.timeout_secs), [300, 300, 300]);
      const groups = commands(log).filter(({ name }) => name === 'group').map(({ text }) => text);
      assert.deepEqual(groups, [0, 1, 2].map((at) => `sandbox ${at} (sb-${at}): exit code 0`));
    });
  });

  it('executes in all at the same time', async () => {
    let waiting = 0;
    let release;
    const together = new Promise((resolve) => (release = resolve));
    const exec = async () => {
      if (++waiting === 5) release();
      await together;
      return { stdout: '', stderr: '', exit_code: 0 };
    };
    await withServer({ exec }, async (server) => {
      assert.equal((await step(server, { command: 'true', n: '5' })).code, 0);
    });
  });

  it('ships scripts of any length and content', async () => {
    const exec = (_, body) => ({ stdout: execute(body.args), stderr: '', exit_code: 0 });
    const long = `: '${'x'.repeat(1_000_000)}'\n`;
    const script = `${long}cat <<'END'\n'quotes' "double" \\ $HOME \`tick\` ä\nEND\necho "$SANDBOX_INDEX"`;
    await withServer({ exec }, async (server) => {
      const { outputs } = await step(server, { script, n: '2' });
      const results = JSON.parse(outputs.results);
      assert.equal(results[1].stdout, '\'quotes\' "double" \\ $HOME `tick` ä\n1\n');
      assert.ok(server.calls('POST', '/exec')[0].body.args.every((arg) => arg.length < 128 * 1024));
    });
  });

  it('fails with a failing member, or not', async () => {
    const exec = (index) => ({ stdout: `out ${index}`, stderr: 'err', exit_code: index % 3 === 1 ? 3 : 0 });
    await withServer({ exec }, async (server) => {
      const failing = await step(server, { command: 'x', n: '3' });
      assert.equal(failing.code, 1);
      assert.equal(failing.outputs.any_failed, 'true');
      assert.equal(JSON.parse(failing.outputs.results)[1].exit_code, 3);
      assert.match(failing.log, /::error::the command failed in 1 of 3 sandboxes: 1 \(exit code 3\)/);
      const fine = await step(server, { command: 'x', n: '3', fail_on_nonzero: 'false' });
      assert.equal(fine.code, 0);
      assert.equal(fine.outputs.any_failed, 'true');
      assert.match(fine.log, /::warning::the command failed/);
      assert.equal(server.deleted().length, 6);
    });
  });

  it('names time-outs and signals', async () => {
    const ends = [
      { exit_code: 124, timed_out: true, signal: null },
      { exit_code: 137, timed_out: false, signal: 9 },
      { exit_code: 127 },
    ];
    await withServer({ exec: (index) => ({ stdout: '', stderr: '', ...ends[index] }) }, async (server) => {
      const { log } = await step(server, { command: 'x', n: '3' });
      assert.match(log, /0 \(timed out\), 1 \(signal 9\), 2 \(exit code 127\)/);
    });
  });

  it('takes a sandbox that cannot be asked for a failed one, with what it printed', async () => {
    const on = (method, path) =>
      path === '/v1/sandboxes/sb-1/exec'
        ? { status: 500, body: { error: 'the VM ended', stdout: 'last words\n', stderr: '' } }
        : null;
    await withServer({ on }, async (server) => {
      const { code, outputs } = await step(server, { command: 'x', n: '2' });
      assert.equal(code, 1);
      const [fine, lost] = JSON.parse(outputs.results);
      assert.equal(fine.exit_code, 0);
      assert.equal(lost.exit_code, -1);
      assert.equal(lost.stdout, 'last words\n');
      assert.match(lost.stderr, /the VM ended/);
      assert.deepEqual(server.deleted(), ['sb-0', 'sb-1']);
    });
  });

  it('says why it could not spawn', async () => {
    const on = (method, path) =>
      method === 'POST' && path === '/v1/sandboxes' ? { status: 404, body: { error: 'there is no snapshot nope' } } : null;
    await withServer({ on }, async (server) => {
      const { code, log, outputs } = await step(server, { command: 'x' });
      assert.equal(code, 1);
      assert.match(log, /::error::.*404 there is no snapshot nope/);
      assert.deepEqual(outputs, { results: '[]', any_failed: 'true' });
      assert.deepEqual(server.deleted(), []);
    });
    const gone = await startServer();
    gone.close();
    const { code, log } = await step(gone, { command: 'x' });
    assert.equal(code, 1);
    assert.match(log, /::error::.*ECONNREFUSED/);
  });

  it('leaves sandboxes when told so, and says which', async () => {
    await withServer({}, async (server) => {
      const { log } = await step(server, { command: 'x', n: '2', cleanup: 'false' });
      assert.deepEqual(server.deleted(), []);
      assert.match(log, /left there: sb-0 sb-1/);
    });
  });

  it('warns of a sandbox that cannot be deleted, but not of one that is gone', async () => {
    const on = (method, path) => {
      if (method !== 'DELETE') return null;
      return path.endsWith('sb-0') ? { status: 404, body: { error: 'gone' } } : { status: 500, body: { error: 'stuck' } };
    };
    await withServer({ on }, async (server) => {
      const { code, log } = await step(server, { command: 'x', n: '2' });
      assert.equal(code, 0);
      assert.equal(log.match(/a sandbox may be left/g).length, 1);
      assert.match(log, /stuck/);
    });
  });

  it('deletes also when it is cancelled', async () => {
    let cancel;
    const on = (method, path) => {
      if (!path.endsWith('/exec')) return null;
      setImmediate(() => cancel('SIGTERM'));
      return { hang: true };
    };
    await withServer({ on }, async (server) => {
      const { code, log, outputs } = await step(server, { command: 'x', n: '2' }, { onCancel: (it) => (cancel = it) });
      assert.equal(code, 1);
      assert.match(log, /::error::cancelled/);
      assert.equal(outputs.any_failed, 'true');
      assert.deepEqual(server.deleted(), ['sb-0', 'sb-1']);
    });
  });
});

describe('the token', () => {
  it('is masked first, and is in every request', async () => {
    await withServer({}, async (server) => {
      const { log } = await step(server, { command: 'x' });
      assert.ok(log.startsWith(`::add-mask::${TOKEN}\n`), log);
      assert.ok(!log.slice(log.indexOf('\n')).includes(TOKEN));
      assert.ok(server.seen.every((one) => one.headers.authorization === `Bearer ${TOKEN}`));
    });
  });

  it('follows no redirect', async () => {
    await withServer({}, async (elsewhere) => {
      const on = () => ({ status: 307, headers: { Location: `${elsewhere.url}/v1/sandboxes` } });
      await withServer({ on }, async (server) => {
        const { code, log } = await step(server, { command: 'x' });
        assert.equal(code, 1);
        assert.match(log, /::error::.*307/);
        assert.deepEqual(elsewhere.seen, []);
      });
    });
  });

  it('goes to the path of the url, and not to a proxy', async () => {
    await withServer({}, async (proxy) => {
      process.env.HTTP_PROXY = process.env.http_proxy = proxy.url;
      try {
        await withServer({}, async (server) => {
          await step({ url: `${server.url}/base/` }, { command: 'x' });
          assert.equal(server.seen[0].path, '/base/v1/sandboxes');
          assert.deepEqual(proxy.seen, []);
        });
      } finally {
        delete process.env.HTTP_PROXY;
        delete process.env.http_proxy;
      }
    });
  });
});

describe('inputs', () => {
  it('that are wrong are said before anything is asked', async () => {
    await withServer({}, async (server) => {
      for (const [inputs, said] of [
        [{}, /exactly one of the inputs command and script/],
        [{ command: 'x', script: 'y' }, /exactly one/],
        [{ command: ' ', script: '\n' }, /exactly one/],
        [{ script: 'x'.repeat(1024 * 1024 + 1) }, /script is longer than 1 MiB/],
        [{ command: 'x', n: '0' }, /input n is a number from 1 to 1000/],
        [{ command: 'x', n: '1001' }, /input n/],
        [{ command: 'x', n: '1e2' }, /input n/],
        [{ command: 'x', memory_limit_mib: 'lots' }, /memory_limit_mib/],
        [{ command: 'x', exec_timeout_secs: '-1' }, /exec_timeout_secs/],
        [{ command: 'x', cleanup: 'maybe' }, /input cleanup is true or false/],
        [{ command: 'x', snapshot_tag: '' }, /snapshot_tag is required/],
        [{ command: 'x', token: '' }, /token is required/],
        [{ command: 'x', token: 'two words' }, /input token has spaces/],
        [{ command: 'x', url: 'host:8889' }, /begins with http/],
        [{ command: 'x', url: 'not a url' }, /is no URL/],
        [{ command: 'x', url: 'http://user:pw@host/' }, /has a user/],
      ]) {
        const { code, log } = await step(server, inputs);
        assert.equal(code, 1, JSON.stringify(inputs).slice(0, 100));
        assert.match(log, said);
      }
      assert.deepEqual(server.seen, []);
    });
  });
});
