import { FitAddon } from '@xterm/addon-fit';
import { SearchAddon } from '@xterm/addon-search';
import { WebLinksAddon } from '@xterm/addon-web-links';
import { Terminal } from '@xterm/xterm';
import type { ITheme } from '@xterm/xterm';

/** Lines that scroll back. xterm's search slows down badly in tens of thousands (xterm.js issue 5443). */
const SCROLLBACK = 10_000;

const dark: ITheme = {
  background: '#0f1518',
  foreground: '#d9e2e4',
  cursor: '#5ec8bf',
  cursorAccent: '#0f1518',
  selectionBackground: '#2f5d60',
  black: '#1d262a',
  red: '#ef7b72',
  green: '#7cc98a',
  yellow: '#e0b865',
  blue: '#76aef0',
  magenta: '#c894e0',
  cyan: '#62c9c4',
  white: '#c6d0d3',
  brightBlack: '#71828a',
  brightRed: '#ff9d94',
  brightGreen: '#9be0a7',
  brightYellow: '#f2d08a',
  brightBlue: '#9cc6ff',
  brightMagenta: '#deb3f2',
  brightCyan: '#8ce3dd',
  brightWhite: '#ffffff',
};

const light: ITheme = {
  background: '#ffffff',
  foreground: '#1c262b',
  cursor: '#0f6b66',
  cursorAccent: '#ffffff',
  selectionBackground: '#b9dedb',
  black: '#1c262b',
  red: '#b3261e',
  green: '#1d7a37',
  yellow: '#8a6100',
  blue: '#1f5fb4',
  magenta: '#8b3aa8',
  cyan: '#0b7570',
  white: '#5d6b72',
  brightBlack: '#6c7a81',
  brightRed: '#c9372c',
  brightGreen: '#2a8a45',
  brightYellow: '#966b00',
  brightBlue: '#2b6fc9',
  brightMagenta: '#9c4abb',
  brightCyan: '#128580',
  brightWhite: '#47545a',
};

export const terminalThemes = { dark, light };

/** Colours of found text, by theme; the addon takes no other than #rrggbb. */
export const findColours = {
  dark: { match: '#4b4520', active: '#b88a1e', ruler: '#e0b865' },
  light: { match: '#fbeeb8', active: '#f3c443', ruler: '#8a6100' },
};

/**
 * Answers that a terminal gives by itself to queries: device attributes, status and position reports, colours and
 * settings. They look like typing but nobody typed them.
 */
const ESC = '\x1b';
const ANSWER = new RegExp(
  [
    `^${ESC}\\[[?>=]?[\\d;]*(?:\\$y|[cnRt])$`, // CSI: DA, DSR, cursor position, mode, window reports
    `^${ESC}\\]\\d+;[^${ESC}]*(?:${ESC}\\\\)?$`, // OSC: colours
    `^${ESC}P[^${ESC}]*${ESC}\\\\$`, // DCS: settings
  ].join('|'),
);

export function isTerminalAnswer(data: string): boolean {
  return ANSWER.test(data);
}

/** A link that may be shown to the user at all: guests print whatever they like. */
export function safeLink(text: string): URL | undefined {
  if (!URL.canParse(text)) return undefined;
  const url = new URL(text);
  return url.protocol === 'http:' || url.protocol === 'https:' ? url : undefined;
}

/** Everything printed that is still kept, as plain text; lines that were wrapped to fit are whole again. */
export function terminalText(terminal: Terminal): string {
  const lines: string[] = [];
  const buffer = terminal.buffer.normal;
  for (let row = 0; row < buffer.length; row += 1) {
    const line = buffer.getLine(row);
    if (line === undefined) continue;
    const next = buffer.getLine(row + 1);
    const text = line.translateToString(next?.isWrapped !== true);
    if (line.isWrapped && lines.length > 0) lines[lines.length - 1] += text;
    else lines.push(text);
  }
  return `${lines.join('\n').trimEnd()}\n`;
}

/** A terminal set up for guests that are not trusted: no link opens and no clipboard changes unasked. */
export function makeTerminal(openLink: (text: string) => void) {
  const terminal = new Terminal({
    scrollback: SCROLLBACK,
    fontFamily: 'ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", "Liberation Mono", monospace',
    fontSize: 13,
    lineHeight: 1.2,
    cursorBlink: false,
    // WCAG AA, whatever colours a guest picks.
    minimumContrastRatio: 4.5,
    allowProposedApi: true,
    // OSC 8: the text of such a link can hide where it leads; the question shows it.
    linkHandler: { activate: (_event, text) => openLink(text), allowNonHttpProtocols: false },
  });
  const fit = new FitAddon();
  const search = new SearchAddon({ highlightLimit: 1000 });
  terminal.loadAddon(fit);
  terminal.loadAddon(search);
  terminal.loadAddon(new WebLinksAddon((_event, text) => openLink(text)));
  // OSC 52 (clipboard) has no handler in xterm; claiming it here keeps it so whatever addon is loaded later.
  terminal.parser.registerOscHandler(52, () => true);
  return { terminal, fit, search };
}
