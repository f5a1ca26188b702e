// A controller of the tests: what it was asked, and answers as a test wants them.
import http from 'node:http';

export const TOKEN = 'a-token-of-the-tests';

/** Starts one. `exec(index, body)` gives the answer of an exec; `on(method, path)` may give `{status, body, headers}`
 * in place of any answer. */
export async function startServer({ exec = () => ({ stdout: '', stderr: '', exit_code: 0 }), on = () => null } = {}) {
  const seen = [];
  const ids = [];
  const server = http.createServer(async (request, response) => {
    const parts = [];
    for await (const part of request) parts.push(part);
    const text = Buffer.concat(parts).toString();
    const body = text === '' ? null : JSON.parse(text);
    seen.push({ method: request.method, path: request.url, headers: request.headers, body });
    const answer = (status, value, headers = {}) => {
      const data = value === null ? '' : typeof value === 'string' ? value : JSON.stringify(value);
      response.writeHead(status, { 'Content-Type': 'application/json', ...headers });
      response.end(data);
    };
    const special = on(request.method, request.url);
    if (special) return special.hang ? undefined : answer(special.status, special.body ?? null, special.headers);
    if (request.headers.authorization !== `Bearer ${TOKEN}`) return answer(401, { error: 'a token is needed' });
    const [, , what, id, action] = request.url.split('/');
    if (request.method === 'POST' && what === 'sandboxes' && !id) {
      const made = Array.from({ length: body.n }, (_, at) => ({ id: `sb-${ids.length + at}` }));
      ids.push(...made.map((one) => one.id));
      return answer(201, made);
    }
    if (action === 'exec') return answer(200, await exec(ids.indexOf(id), body));
    if (request.method === 'DELETE') return answer(204, null);
    return answer(404, '');
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    seen,
    url: `http://127.0.0.1:${server.address().port}`,
    calls: (method, ending) => seen.filter((one) => one.method === method && one.path.endsWith(ending)),
    deleted: () => seen.filter((one) => one.method === 'DELETE').map((one) => one.path.split('/').at(-1)).sort(),
    close: () => {
      server.closeAllConnections();
      server.close();
    },
  };
}
