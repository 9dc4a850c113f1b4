/**
 * A dot plot as SVG: a line for each row, a dot for each peer, on a logarithmic axis of time relative to one of
 * them. Text, colours and sizes are in the file itself, so that it looks the same wherever a page shows it.
 */
export interface Panel {
  title: string;
  /** What 1 on the axis is. */
  unit: string;
  rows: { label: string; dots: Partial<Record<string, number>>; strong?: boolean }[];
}

/** Colours that people with any kind of colour vision tell apart (Okabe and Ito), and shapes for print. */
const STYLES = [
  { colour: '#0072b2', shape: 'circle' },
  { colour: '#d55e00', shape: 'square' },
  { colour: '#009e73', shape: 'diamond' },
  { colour: '#999999', shape: 'triangle' },
] as const;

const WIDTH = 760;
const LEFT = 190;
const RIGHT = 24;
const LINE = 21;
const HEAD = 66;
const FOOT = 34;

const escape = (text: string): string =>
  text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;');

const text = (x: number, y: number, content: string, more = ''): string =>
  `<text x="${x}" y="${y}"${more}>${escape(content)}</text>`;

function dot(x: number, y: number, index: number, title: string): string {
  const { colour, shape } = STYLES[index % STYLES.length];
  const inner = `<title>${escape(title)}</title>`;
  const paint = `fill="${colour}" stroke="#ffffff"`;
  switch (shape) {
    case 'circle':
      return `<circle cx="${x}" cy="${y}" r="6" ${paint}>${inner}</circle>`;
    case 'square':
      return `<rect x="${x - 5}" y="${y - 5}" width="10" height="10" ${paint}>${inner}</rect>`;
    case 'diamond':
      return `<path d="M${x} ${y - 7}l7 7l-7 7l-7 -7z" ${paint}>${inner}</path>`;
    case 'triangle':
      return `<path d="M${x} ${y - 6}l6 11h-12z" ${paint}>${inner}</path>`;
  }
}

/** The decades that hold all values: exponents of 10. */
export function decades(values: readonly number[]): [number, number] {
  const logs = values.filter((value) => value > 0 && Number.isFinite(value)).map(Math.log10);
  if (logs.length === 0) return [-1, 1];
  const [low, high] = [Math.floor(Math.min(...logs)), Math.ceil(Math.max(...logs))];
  return low === high ? [low - 1, high + 1] : [low, high];
}

const round = (value: number): number => Math.round(value * 10) / 10;

function panelOf(panel: Panel, peers: readonly string[], top: number): string[] {
  const values = panel.rows.flatMap(({ dots }) => Object.values(dots)).filter((value) => value !== undefined);
  const [low, high] = decades([...values, 1]);
  const xOf = (value: number): number =>
    round(LEFT + ((Math.log10(value) - low) / (high - low)) * (WIDTH - LEFT - RIGHT));
  const first = top + HEAD;
  const bottom = first + panel.rows.length * LINE;
  const out = [text(12, top + 22, panel.title, ' font-size="15" font-weight="bold"')];
  peers.forEach((peer, i) => {
    const x = LEFT + i * 140;
    out.push(dot(x, top + 42, i, peer), text(x + 12, top + 46, peer));
  });
  for (let power = low; power <= high; power++) {
    const x = xOf(10 ** power);
    const stroke = power === 0 ? 'stroke="#333333"' : 'stroke="#dddddd"';
    out.push(`<line x1="${x}" y1="${first - 8}" x2="${x}" y2="${bottom}" ${stroke}/>`);
    const label = power < 0 ? `1/${10 ** -power}` : String(10 ** power);
    out.push(text(x, bottom + 15, label, ' text-anchor="middle" fill="#555555"'));
  }
  out.push(text(LEFT, bottom + 29, panel.unit, ' fill="#555555"'));
  panel.rows.forEach(({ label, dots, strong }, n) => {
    const y = first + n * LINE + 6;
    const weight = strong ? ' font-weight="bold"' : '';
    out.push(text(LEFT - 14, y + 4, label, ` text-anchor="end"${weight}`));
    out.push(`<line x1="${LEFT}" y1="${y}" x2="${WIDTH - RIGHT}" y2="${y}" stroke="#eeeeee"/>`);
    // The first one comes last, so that it lies on top.
    [...peers.entries()].reverse().forEach(([i, peer]) => {
      const value = dots[peer];
      if (value === undefined) return;
      out.push(dot(xOf(value), y, i, `${label}, ${peer}: ${value.toPrecision(3)}`));
    });
  });
  return out;
}

const heightOf = ({ rows }: Panel): number => HEAD + rows.length * LINE + FOOT;

/** The whole picture: the panels below each other. */
export function plot(panels: readonly Panel[], peers: readonly string[]): string {
  const height = panels.reduce((sum, panel) => sum + heightOf(panel), 10);
  const out: string[] = [];
  let top = 0;
  for (const panel of panels) {
    out.push(...panelOf(panel, peers, top));
    top += heightOf(panel);
  }
  const size = `width="${WIDTH}" height="${height}" viewBox="0 0 ${WIDTH} ${height}"`;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" ${size} font-family="sans-serif" font-size="12" fill="#222222">`,
    `<rect width="${WIDTH}" height="${height}" fill="#ffffff"/>`,
    ...out,
    '</svg>',
    '',
  ].join('\n');
}
