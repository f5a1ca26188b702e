// Foreign text in the log and in the outputs.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { rows } from '../lib/log.js';
import { resultsJson } from '../lib/output.js';
import { startServer } from './server.js';
import { commands, readOutputs, step } from './step.js';

const HOSTILE = [
  '::set-output name=a::b',
  '  ::add-mask::e',
  '\t::error file=a::b',
  '\x1b[31m::warning::coloured',
  ':\x1b[0m:error::cut by a colour',
  '\u200b::error::behind a mark without width',
  '\ufeff::error::behind a byte order mark',
  'progress\r::error::behind a carriage return',
  '##[add-mask]x',
  'text ##[error]in the middle',
  '#\x1b[m#[error]cut',
  '##\x00[error]zero',
  '::endgroup::',
  '::stop-commands::mine',
  '::mine::',
  '::::',
  '\x1b]0;title\x07::error::behind a title',
  '\x1bc::error::behind a reset',
  '\u2028::error::behind a line separator',
  '\x0b::error::behind a vertical tab',
];

describe('a sandbox\'s output', () => {
  it('has no row that a runner takes for a command', () => {
    for (const text of HOSTILE) {
      // as it stands, with nothing that stops commands
      assert.deepEqual(commands(`${rows(text).join('\n')}\n`), [], JSON.stringify(text));
    }
    assert.notDeepEqual(commands(HOSTILE.join('\n').replace('stop-commands', 'x')), [], 'the test sees commands');
  });

  it('stays readable', () => {
    assert.deepEqual(rows('a: b\n\tc::d\n\ne\r\nf'), ['a: b', '\tc::d', '', 'e', 'f']);
    assert.deepEqual(rows(''), []);
    assert.deepEqual(rows('\x1b[1;32mok\x1b[0m ä 漢 🦀'), ['ok ä 漢 🦀']);
    assert.equal(rows('::error::x')[0].replace('\u200b', ''), '::error::x');
  });

  it('issues no command in a run, whatever it and the controller say', async () => {
    const hostile = HOSTILE.join('\n');
    const server = await startServer({ exec: () => ({ stdout: hostile, stderr: hostile, exit_code: 1 }) });
    const { log, outputs } = await step(server, { command: 'x', n: '2', fail_on_nonzero: 'false' });
    server.close();
    assert.deepEqual(
      commands(log).map(({ name }) => name),
      ['add-mask', 'group', 'endgroup', 'group', 'endgroup', 'warning'],
    );
    const tokens = [...log.matchAll(/::stop-commands::([0-9a-f]{32})\n/g)].map((match) => match[1]);
    assert.equal(new Set(tokens).size, 2);
    // the outputs have it as it was
    assert.equal(JSON.parse(outputs.results)[0].stdout, hostile);

    const error = { error: 'x\n::set-env name=A::b\n##[error]y' };
    const bad = await startServer({ on: () => ({ status: 500, body: error }) });
    const refused = await step(bad, { command: 'x' });
    bad.close();
    assert.deepEqual(commands(refused.log).map(({ name }) => name), ['add-mask', 'error']);
    assert.ok(!refused.log.includes('\n::set-env'));
  });

  it('cannot end an output', async () => {
    const stdout = 'ghadelimiter_00000000000000000000000000000000\nany_failed<<E\nfalse\nE\n';
    const server = await startServer({ exec: () => ({ stdout, stderr: '', exit_code: 1 }) });
    const { outputs } = await step(server, { command: 'x' });
    server.close();
    assert.deepEqual(Object.keys(outputs), ['results', 'any_failed']);
    assert.equal(outputs.any_failed, 'true');
    assert.equal(JSON.parse(outputs.results)[0].stdout, stdout);
  });
});

describe('results', () => {
  it('fit into an output, and say what was left out', () => {
    const long = { id: 'a', exit_code: 1, stdout: `${'x'.repeat(3_000_000)}the end`, stderr: 'short' };
    const short = { id: 'b', exit_code: 0, stdout: 'kept', stderr: '' };
    const { json, truncated } = resultsJson([long, short]);
    assert.ok(truncated && Buffer.byteLength(json) <= 1024 * 1024);
    const [a, b] = JSON.parse(json);
    assert.ok(a.stdout.endsWith('the end') && a.truncated && a.stderr === 'short');
    assert.deepEqual(b, short);
    assert.deepEqual(resultsJson([short]), { json: JSON.stringify([short]), truncated: false });
  });

  it('are read back as a runner reads them', () => {
    assert.deepEqual(readOutputs('a<<X\n1\n2\nX\nb<<Y\nY\n'), { a: '1\n2', b: '' });
  });
});
