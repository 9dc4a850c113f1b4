import { useEffect, useRef, useState } from 'react';
import { actionForKey } from '../actions.ts';
import { copyText, pasteText } from '../clipboard.ts';
import { ConsoleSession } from '../console.ts';
import { download, fileName } from '../format.ts';
import { shortcut } from '../keyboard.ts';
import type { ConsoleHandle } from '../store.ts';
import { isTerminalAnswer, makeTerminal, safeLink, terminalText, terminalThemes } from '../terminal.ts';
import { useApp, useAppState } from './context.ts';
import { SearchBar } from './SearchBar.tsx';
import { useTheme } from './useTheme.ts';

type Kit = ReturnType<typeof makeTerminal>;

/** Ends what a guest that died may have left on: alternate screen, origin mode, character sets, colours. */
const SOFT_RESET = '\x1b[?47l\x1b[!p\x1b[0m';

const NO_COPY = 'Copy: the browser does not let this page write to the clipboard.';
const NO_PASTE =
  'Paste: the browser does not let this page read the clipboard. Press Ctrl+Shift+V in the console.';

interface Props {
  id: string;
  port: number;
  name: string;
  /** Nothing runs that could print. */
  idle: boolean;
}

/** One serial port in a terminal. Another port or machine is another instance of this. */
export function ConsoleTerminal({ id, port, name, idle }: Props) {
  const store = useApp();
  const theme = useTheme();
  const screenReader = useAppState((state) => state.preferences.screenReader);
  const host = useRef<HTMLDivElement>(null);
  const [kit, setKit] = useState<Kit>();
  const [printed, setPrinted] = useState(false);
  const [searching, setSearching] = useState(false);
  const [session, setSession] = useState<ConsoleSession>();

  useEffect(() => {
    const element = host.current;
    if (element === null) return;
    const ask = (text: string): void => {
      const url = safeLink(text);
      if (url === undefined) return;
      const question = {
        title: 'Open this link?',
        text: `The guest printed it, and it leads to ${url.href}`,
        button: 'Open',
        danger: false,
        run: () => void window.open(url.href, '_blank', 'noopener,noreferrer'),
      };
      store.set({ dialog: { kind: 'confirm', question } });
    };
    const made = makeTerminal(ask);
    const { terminal, fit } = made;
    terminal.open(element);
    fit.fit();
    const sink = {
      write: (bytes: Uint8Array, done: () => void) => {
        setPrinted(true);
        terminal.write(bytes, done);
      },
      reset: () => terminal.reset(),
      note: (text: string) => terminal.write(`${SOFT_RESET}\r\n\x1b[2m── ${text} ──\x1b[0m\r\n`),
    };
    const opened = new ConsoleSession(store.client, { id, port }, sink, (text) => store.alert(text));
    terminal.onData((data) => {
      // Of several windows on one console, only the one in use answers a guest's queries.
      if (isTerminalAnswer(data) && (opened.replaying || !document.hasFocus())) return;
      opened.input(data);
    });
    terminal.onBinary((data) => opened.input(Uint8Array.from(data, (character) => character.charCodeAt(0))));
    // The window's shortcuts are not typing. False: xterm leaves the key alone.
    terminal.attachCustomKeyEventHandler((event) => {
      const key = shortcut(event, 'console', false);
      return key === undefined || actionForKey(key, true, store.get()) === undefined;
    });
    const observer = new ResizeObserver(() => fit.fit());
    observer.observe(element);
    setKit(made);
    setSession(opened);
    return () => {
      observer.disconnect();
      opened.close();
      terminal.dispose();
      setKit(undefined);
      setSession(undefined);
      setPrinted(false);
    };
  }, [store, id, port]);

  useEffect(() => {
    if (kit !== undefined) kit.terminal.options.theme = terminalThemes[theme];
  }, [kit, theme]);

  useEffect(() => {
    if (kit !== undefined) kit.terminal.options.screenReaderMode = screenReader;
  }, [kit, screenReader]);

  useEffect(() => {
    if (kit === undefined) return;
    const { terminal } = kit;
    const handle: ConsoleHandle = {
      focus: () => terminal.focus(),
      search: () => setSearching(true),
      copy: () => {
        const text = terminal.getSelection();
        if (text === '') store.notice('Copy: select some text in the console first.');
        else void copyText(text, () => terminal.focus()).then((done) => done || store.alert(NO_COPY));
      },
      paste: () => {
        terminal.focus();
        void pasteText().then((text) => (text === undefined ? store.alert(NO_PASTE) : terminal.paste(text)));
      },
      clear: () => terminal.clear(),
      saveLog: () => download(`${fileName(name)}-COM${port + 1}.log`, terminalText(terminal)),
    };
    store.set({ console: handle });
    return () => {
      if (store.get().console === handle) store.set({ console: undefined });
    };
  }, [store, kit, name, port]);

  return (
    <div className="terminal-frame">
      {searching && kit !== undefined && (
        <SearchBar
          search={kit.search}
          theme={theme}
          onGuest={() => session?.input('\x06')}
          onClose={() => {
            setSearching(false);
            kit.terminal.focus();
          }}
        />
      )}
      {idle && !printed && <p className="terminal-empty">Nothing has been printed here yet.</p>}
      <div
        className="terminal-host"
        ref={host}
        role="region"
        aria-label={`Console of ${name}, COM${port + 1}`}
      />
    </div>
  );
}
