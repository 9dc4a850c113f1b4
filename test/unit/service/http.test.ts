import { mkdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { request, type IncomingHttpHeaders } from 'node:http';
import { connect } from 'node:net';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { WebSocket } from 'ws';
import { HttpFrontEnd } from '../../../main/service/http.ts';
import { LocalSocket } from '../../../main/service/local-socket.ts';
import { libraryFolder, localSocketPath } from '../../../main/service/paths.ts';
import { parseServeArgs } from '../../../main/service/serve-command.ts';
import { Service } from '../../../main/service/service.ts';
import { accessToken } from '../../../main/service/token.ts';
import { FakeMachine, temporaryFolder } from './fakes.ts';

const closers: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

/** A served library whose page has an index, a script, and things around it that nobody may have. */
async function served(host = '127.0.0.1') {
  const folder = temporaryFolder();
  const page = join(folder, 'page');
  mkdirSync(join(page, 'assets'), { recursive: true });
  writeFileSync(join(page, 'index.html'), '<!doctype html><title>Vitrine</title>');
  writeFileSync(join(page, 'assets', 'a.js'), 'export {};');
  writeFileSync(join(folder, 'secret.js'), 'secret');
  symlinkSync(join(folder, 'secret.js'), join(page, 'link.js'));
  writeFileSync(join(page, 'page.key'), 'secret');
  const service = await Service.open({ folder, makeMachine: () => new FakeMachine() });
  closers.push(() => service.close());
  const token = await accessToken(folder);
  const http = await HttpFrontEnd.open(service, { host, port: 0, orNext: false, token, page });
  closers.push(() => http.close());
  const { port } = new URL(http.address);
  return { service, http, token, folder, page, port: Number(port) };
}

interface Reply {
  status: number;
  headers: IncomingHttpHeaders;
  body: string;
}

/** One request, with a path that is sent as it stands. */
function ask(port: number, path: string, options: { method?: string; host?: string } = {}): Promise<Reply> {
  const { method = 'GET', host = `127.0.0.1:${port}` } = options;
  return new Promise((resolve, reject) => {
    const asked = request({ port, host: '127.0.0.1', path, method, headers: { Host: host } }, (response) => {
      let body = '';
      response.on('data', (data: Buffer) => (body += data.toString()));
      response.on('end', () => resolve({ status: response.statusCode!, headers: response.headers, body }));
    });
    asked.on('error', reject);
    asked.end();
  });
}

/** Opens a WebSocket: the open socket, or the status that refused it. */
function open(
  port: number,
  {
    protocols,
    path = '/ws',
    headers = {},
  }: { protocols: string[]; path?: string; headers?: Record<string, string> },
): Promise<WebSocket | number> {
  return new Promise((resolve) => {
    const socket = new WebSocket(`ws://127.0.0.1:${port}${path}`, protocols, { headers });
    socket.on('unexpected-response', (_request, response) => {
      resolve(response.statusCode!);
      socket.terminate();
    });
    socket.on('open', () => resolve(socket));
    socket.on('error', () => undefined);
  });
}

const closeCode = (socket: WebSocket) => new Promise<number>((resolve) => socket.on('close', resolve));

describe('the page', () => {
  test('comes with headers that allow our own files only', async () => {
    const { port } = await served();
    const { status, headers, body } = await ask(port, '/');
    expect([status, body]).toEqual([200, '<!doctype html><title>Vitrine</title>']);
    expect(headers['content-security-policy']).toContain("default-src 'none'; script-src 'self';");
    expect(headers['content-security-policy']).not.toMatch(/unsafe-eval|script-src[^;]*unsafe-inline|\*/);
    expect(headers['x-content-type-options']).toBe('nosniff');
    expect(headers['referrer-policy']).toBe('no-referrer');
    expect(headers['access-control-allow-origin']).toBeUndefined();
    expect((await ask(port, '/assets/a.js?v=1')).headers['content-type']).toBe(
      'text/javascript; charset=utf-8',
    );
    expect((await ask(port, '/', { method: 'HEAD' })).body).toBe('');
  });

  const paths = [
    '/../secret.js',
    '/assets/../../secret.js',
    '/%2e%2e/secret.js',
    '/%2e%2e%2fsecret.js',
    '/..%5csecret.js',
    '/assets/%2e%2e/%2e%2e/secret.js',
    '/%252e%252e/secret.js',
    '//secret.js',
    '/link.js',
    '/page.key',
    '/token',
    '/lock',
    '/assets',
    '/assets/',
    '/%00index.html',
    '/index.html%00.js',
    '/%',
    '/%ff.js',
    '/etc/passwd',
    'http://127.0.0.1/../secret.js',
    '*',
  ];
  test.each(paths)('nothing else is given out: %s', async (path) => {
    const { port } = await served();
    const { status, body } = await ask(port, path);
    expect(status).toBe(404);
    expect(body).not.toContain('secret');
  });

  test.each(['POST', 'PUT', 'DELETE', 'OPTIONS', 'TRACE'])('%s is refused', async (method) => {
    const { port } = await served();
    expect((await ask(port, '/', { method })).status).toBe(405);
  });

  const hosts = [
    { host: 'evil.example', wanted: 421 },
    { host: 'evil.example:8006', wanted: 421 },
    { host: '127.0.0.1.evil.example', wanted: 421 },
    { host: 'localhost.evil.example', wanted: 421 },
    { host: 'localhost@evil.example', wanted: 421 },
    { host: 'evil.example.', wanted: 421 },
    { host: 'localhost', wanted: 200 },
    { host: 'LOCALHOST:1', wanted: 200 },
    { host: '127.0.0.1:9000', wanted: 200 },
    { host: '[::1]:8006', wanted: 200 },
    { host: '192.168.1.5:8006', wanted: 200 },
  ];
  test.each(hosts)('called "$host" it answers $wanted', async ({ host, wanted }) => {
    const { port } = await served();
    expect((await ask(port, '/', { host })).status).toBe(wanted);
  });

  test('the name that the user gave is ours', async () => {
    const { port } = await served('localhost');
    expect((await ask(port, '/', { host: 'localhost' })).status).toBe(200);
  });
});

describe('the WebSocket', () => {
  const good = (token: string) => ['vitrine.v1', `token.${token}`];

  test('with the token carries the contract', async () => {
    const { port, token } = await served();
    const socket = (await open(port, {
      protocols: good(token),
      headers: { Origin: `http://127.0.0.1:${port}` },
    })) as WebSocket;
    expect(socket.protocol).toBe('vitrine.v1');
    const answered = new Promise<string>((resolve) =>
      socket.once('message', (data) => resolve(String(data))),
    );
    socket.send(JSON.stringify({ call: 1, method: 'vm.list', params: {} }));
    expect(JSON.parse(await answered)).toMatchObject({ call: 1, result: [{ id: 'calculator' }] });
    socket.terminate();
  });

  const refused: {
    name: string;
    protocols?: (token: string) => string[];
    path?: string;
    headers?: Record<string, string>;
    wanted: number;
  }[] = [
    { name: 'no token', protocols: () => ['vitrine.v1'], wanted: 401 },
    { name: 'no protocol at all', protocols: () => [], wanted: 401 },
    { name: 'a wrong token', protocols: () => good('x'.repeat(43)), wanted: 401 },
    { name: 'an empty token', protocols: () => good(''), wanted: 401 },
    { name: 'part of the token', protocols: (token) => good(token.slice(0, -1)), wanted: 401 },
    { name: 'the token alone', protocols: (token) => [`token.${token}`], wanted: 400 },
    { name: 'another path', path: '/', wanted: 404 },
    { name: "another site's origin", headers: { Origin: 'http://evil.example' }, wanted: 403 },
    { name: 'an opaque origin', headers: { Origin: 'null' }, wanted: 403 },
    { name: 'the origin of another port here', headers: { Origin: 'http://127.0.0.1:1' }, wanted: 403 },
    {
      name: 'a name that was pointed at us',
      headers: { Host: 'evil.example', Origin: 'http://evil.example' },
      wanted: 421,
    },
  ];
  test.each(refused)('is refused with $name', async ({ protocols = good, path, headers, wanted }) => {
    const { port, token } = await served();
    expect(await open(port, { protocols: protocols(token), path, headers })).toBe(wanted);
  });

  const bad = [
    { name: 'too long', send: (socket: WebSocket) => socket.send('x'.repeat(129 * 1024)), wanted: 1009 },
    { name: 'no JSON', send: (socket: WebSocket) => socket.send('{'), wanted: 1003 },
    { name: 'binary', send: (socket: WebSocket) => socket.send(Buffer.from('{}')), wanted: 1003 },
    { name: 'no request', send: (socket: WebSocket) => socket.send('{}'), wanted: 1008 },
  ];
  test.each(bad)('a message that is $name ends that connection only', async ({ send, wanted }) => {
    const { port, token, service } = await served();
    const socket = (await open(port, { protocols: good(token) })) as WebSocket;
    const closed = closeCode(socket);
    send(socket);
    expect(await closed).toBe(wanted);
    expect(service.list().length).toBe(1);
    expect((await ask(port, '/')).status).toBe(200);
  });

  test('a front end that asks and never reads is let go before it costs much memory', async () => {
    const { port, token, service } = await served();
    const socket = (await open(port, { protocols: good(token) })) as WebSocket;
    const file = `/${'f'.repeat(4000)}`;
    const initrd = `/${'i'.repeat(4000)}`;
    await service.call('vm.create', {
      name: 'Long',
      guest: { kind: 'linux', kernel: file, initrd },
      memory: 2 ** 24,
    });
    const closed = closeCode(socket);
    socket.pause();
    // Each answer has 8 KiB: 80 MiB in all, where 32 MiB may wait, and the kernel holds a few.
    for (let call = 0; call < 10_000; call++) socket.send(`{"call":${call},"method":"vm.list","params":{}}`);
    await new Promise((resolve) => socket.ping(undefined, true, resolve));
    await expect.poll(() => ask(port, '/').then(({ status }) => status)).toBe(200);
    let answers = 0;
    socket.on('message', () => answers++);
    socket.resume();
    expect(await closed).toBe(1006);
    expect(answers).toBeLessThan(6000);
  });
});

test('a port that is taken: the next one if none was asked for, else an error', async () => {
  const { service, port, token, page } = await served();
  const options = { host: '127.0.0.1', port, token, page };
  await expect(HttpFrontEnd.open(service, { ...options, orNext: false })).rejects.toThrow(
    `Can't listen at 127.0.0.1 port ${port}: it is in use. Choose another with --port.`,
  );
  const next = await HttpFrontEnd.open(service, { ...options, orNext: true });
  expect(Number(new URL(next.address).port)).toBeGreaterThan(port);
  await next.close();
});

test('the token is random, kept, and readable by its owner only', async () => {
  const [one, other] = [temporaryFolder(), temporaryFolder()];
  const token = await accessToken(one);
  expect(token).toMatch(/^[\w-]{43}$/);
  expect(await accessToken(one)).toBe(token);
  expect(await accessToken(other)).not.toBe(token);
  expect(statSync(join(one, 'token')).mode & 0o777).toBe(0o600);
  writeFileSync(join(other, 'token'), 'guess');
  expect(await accessToken(other)).toMatch(/^[\w-]{43}$/);
  expect(readFileSync(join(other, 'token'), 'utf8')).not.toContain('guess');
});

describe('the local socket', () => {
  /** Sends text, and resolves with all that comes back until `lines` lines have come or the connection ends. */
  function exchange(path: string, text: string, lines: number): Promise<string[]> {
    return new Promise((resolve) => {
      const socket = connect(path);
      let said = '';
      socket.on('data', (data) => {
        said += data.toString();
        if (said.split('\n').length > lines) socket.destroy();
      });
      socket.on('error', () => undefined);
      socket.on('close', () => resolve(said.split('\n').filter(Boolean)));
      socket.write(text);
    });
  }

  async function local() {
    const { service, folder } = await served();
    const path = join(folder, 'socket');
    const socket = await LocalSocket.open(path, service);
    closers.push(() => socket.close());
    return path;
  }

  test('carries the contract as lines, for its owner only', async () => {
    const path = await local();
    expect(statSync(path).mode & 0o777).toBe(0o600);
    const text = [
      '{"call":1,"method":"vm.list","params":{}}',
      '{"call":2,"method":"none","params":{}}',
      '',
    ].join('\n');
    const replies = (await exchange(path, text, 2)).map((line) => JSON.parse(line) as { call: number });
    expect(replies.sort((a, b) => a.call - b.call)).toMatchObject([
      { call: 1, result: [{ id: 'calculator' }] },
      { call: 2, error: { kind: 'invalid' } },
    ]);
  });

  test.each([
    { name: 'no JSON', text: 'hello\n' },
    { name: 'too long', text: 'x'.repeat(200 * 1024) },
    { name: 'too long with an end', text: `"${'x'.repeat(200 * 1024)}"\n` },
  ])('a line that is $name ends that connection only', async ({ text }) => {
    const path = await local();
    expect(await exchange(path, text, 1)).toEqual([]);
    expect(await exchange(path, '{"call":1,"method":"vm.list","params":{}}\n', 1)).toHaveLength(1);
  });

  test('takes the place of a dead service', async () => {
    const { service, folder } = await served();
    const path = join(folder, 'socket');
    writeFileSync(path, '');
    const socket = await LocalSocket.open(path, service);
    expect(await exchange(path, '{"call":1,"method":"vm.list","params":{}}\n', 1)).toHaveLength(1);
    await socket.close();
  });
});

test.each([
  {
    name: 'VITRINE_HOME',
    platform: 'linux' as const,
    env: { VITRINE_HOME: '/v', XDG_DATA_HOME: '/x' },
    wanted: '/v',
  },
  { name: 'XDG_DATA_HOME', platform: 'linux' as const, env: { XDG_DATA_HOME: '/x' }, wanted: '/x/vitrine' },
  { name: 'nothing', platform: 'netbsd' as const, env: {}, wanted: '/home/me/.local/share/vitrine' },
  {
    name: 'macOS',
    platform: 'darwin' as const,
    env: {},
    wanted: '/home/me/Library/Application Support/Vitrine',
  },
])('the library with $name set is in $wanted', ({ platform, env, wanted }) => {
  expect(libraryFolder({ platform, env, home: '/home/me' })).toBe(wanted);
});

test('each library has a socket of its own, with a path that fits', () => {
  const folder = temporaryFolder();
  const where = { platform: 'linux' as const, env: { XDG_RUNTIME_DIR: folder }, home: '/' };
  const [one, other] = [localSocketPath(`/deep${'/folder'.repeat(40)}`, where), localSocketPath('/b', where)];
  expect(one).not.toBe(other);
  expect(one.startsWith(folder)).toBe(true);
  expect(one.length).toBeLessThan(104);
  expect(localSocketPath('/b', { ...where, env: { XDG_RUNTIME_DIR: '/not/there' } })).toBe('/b/socket');
});

test.each([
  { args: [], wanted: { host: '127.0.0.1', port: undefined } },
  { args: ['--port', '0', '--host', '::1'], wanted: { host: '::1', port: 0 } },
  { args: ['--port=65535'], wanted: { host: '127.0.0.1', port: 65535 } },
  { args: ['-h'], wanted: 'help' },
])('vitrine serve $args', ({ args, wanted }) => {
  expect(parseServeArgs(args)).toEqual(wanted);
});

test.each([['--port', '65536'], ['--port', '-1'], ['--port', 'x'], ['--port'], ['--what'], ['extra']])(
  'vitrine serve %s %s is wrong usage',
  (...args) => {
    expect(() => parseServeArgs(args)).toThrow();
  },
);
