/** Ways to reach the service: a WebSocket from a browser, the preload's port in the desktop app. */

/** What a transport tells about one connection. `closed` is called once, also when it never opened. */
export interface Listener {
  opened(): void;
  message(message: unknown): void;
  closed(): void;
}

export interface Connection {
  send(message: unknown): void;
  close(): void;
}

/** Opens one connection; the client calls it again for the next one. */
export type Transport = (listener: Listener) => Connection;

/** What the preload script puts on `window` in the desktop app. */
export interface Bridge {
  /** Asks for a port. It comes back directly or, where the context bridge cannot carry it, as a message to the window. */
  connect(): Promise<unknown>;
  /** The path of a file that the user picked; only the desktop app can know it. */
  pathForFile?(file: File): string;
}

const TOKEN = 'vitrine.token';

/** The parts of a window that hold the access token. */
export interface Place {
  location: Pick<Location, 'hash' | 'pathname' | 'search'>;
  history: Pick<History, 'replaceState'>;
  sessionStorage: Pick<Storage, 'getItem' | 'setItem'>;
}

/**
 * Takes the token from the address (`#token=…`), so that it is not seen over a shoulder or kept in the history;
 * a reload of the page finds it in the session's storage, which ends with the tab.
 */
export function takeToken(place: Place): string {
  const given = new URLSearchParams(place.location.hash.slice(1)).get('token');
  if (given) {
    place.sessionStorage.setItem(TOKEN, given);
    place.history.replaceState(null, '', place.location.pathname + place.location.search);
  }
  return given ?? place.sessionStorage.getItem(TOKEN) ?? '';
}

/** JSON text frames over a WebSocket to the server that served the page; the token travels as a subprotocol. */
export function webSocketTransport(location: Pick<Location, 'protocol' | 'host'>, token: string): Transport {
  const scheme = location.protocol === 'https:' ? 'wss' : 'ws';
  return (listener) => {
    const socket = new WebSocket(`${scheme}://${location.host}/ws`, ['vitrine.v1', `token.${token}`]);
    socket.onopen = () => listener.opened();
    socket.onmessage = (event) => {
      if (typeof event.data === 'string') listener.message(JSON.parse(event.data));
    };
    socket.onclose = () => listener.closed();
    return {
      send: (message) => socket.send(JSON.stringify(message)),
      close: () => socket.close(),
    };
  };
}

function requestPort(bridge: Bridge): Promise<MessagePort> {
  return new Promise((resolve, reject) => {
    const arrived = (event: MessageEvent): void => {
      const [port] = event.ports;
      if (event.source !== window || event.data?.vitrine !== 'port' || port === undefined) return;
      window.removeEventListener('message', arrived);
      resolve(port);
    };
    window.addEventListener('message', arrived);
    bridge.connect().then((given) => {
      if (!(given instanceof MessagePort)) return;
      window.removeEventListener('message', arrived);
      resolve(given);
    }, reject);
  });
}

/** Structured clones over the port that the preload script hands out. */
export function portTransport(bridge: Bridge): Transport {
  return (listener) => {
    let port: MessagePort | undefined;
    let closed = false;
    const end = (): void => {
      if (!closed) listener.closed();
      closed = true;
    };
    requestPort(bridge).then((given) => {
      port = given;
      port.onmessage = (event) => listener.message(event.data);
      port.addEventListener('close', end);
      listener.opened();
    }, end);
    return {
      send: (message) => port?.postMessage(message),
      close: () => {
        port?.close();
        end();
      },
    };
  };
}
