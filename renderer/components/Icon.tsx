/** Our own icons on a 16 × 16 grid: strokes of 1.5, so that they sit well beside the text. */
const shapes = {
  play: <path d="M5 3.2v9.6L12.6 8z" fill="currentColor" strokeLinejoin="round" />,
  pause: <path d="M5.5 3.5v9M10.5 3.5v9" strokeWidth="2.2" />,
  reset: <path d="M13 8a5 5 0 1 1-1.6-3.7M13 2.5v3.2H9.8" />,
  button: <path d="M8 2v5.5M4.8 4.2a5 5 0 1 0 6.4 0" />,
  plug: <path d="M6 2v3M10 2v3M4 5h8v2.5a4 4 0 0 1-8 0zM8 11.5V14" />,
  edit: <path d="M3 13l.6-2.8 7-7a1.2 1.2 0 0 1 1.7 0l.5.5a1.2 1.2 0 0 1 0 1.7l-7 7zM9.5 4.5l2 2" />,
  trash: <path d="M3 4.5h10M6.5 4.5V3h3v1.5M4.5 4.5 5 13h6l.5-8.5M7 7v3.5M9 7v3.5" />,
  plus: <path d="M8 3v10M3 8h10" />,
  list: <path d="M5.5 4H13M5.5 8H13M5.5 12H13M3 4h.01M3 8h.01M3 12h.01" />,
  terminal: <path d="M2.5 3.5h11v9h-11zM5 6.5 7 8 5 9.5M8.5 10H11" />,
  search: <path d="M7 11.5a4.5 4.5 0 1 0 0-9 4.5 4.5 0 0 0 0 9zM10.3 10.3l3.2 3.2" />,
  copy: <path d="M6 6h7v7H6zM3 10V3h7" />,
  paste: <path d="M5.5 3.5H3.8v9.8h8.4V3.5h-1.7M5.8 2.5h4.4v2.2H5.8zM6 8h4M6 10.5h4" />,
  save: <path d="M8 2.5v7M5 6.8l3 3 3-3M3 11.5v2h10v-2" />,
  clear: <path d="M6 12.5 2.8 9.3 8.6 3.5l4 4-5 5zM5.5 6.6l4 4M7 12.5h6" />,
  reader: (
    <path d="M2.5 6.2v3.6h2.2L8 12.5v-9L4.7 6.2zM10.3 6a2.8 2.8 0 0 1 0 4M12 4.2a5.4 5.4 0 0 1 0 7.6" />
  ),
  theme: (
    <>
      <circle cx="8" cy="8" r="5.2" />
      <path d="M8 2.8v10.4a5.2 5.2 0 0 0 0-10.4z" fill="currentColor" />
    </>
  ),
  help: <path d="M5.8 6a2.2 2.2 0 1 1 3.3 1.9c-.7.4-1.1.9-1.1 1.6v.3M8 12.6v.01" />,
  exits: <path d="M2.5 4h4v8h-4M8.5 8h5M11.2 5.7 13.5 8l-2.3 2.3" />,
  glass: <path d="M2.5 3.5h11v9h-11zM2.5 6.5h11M7 6.5v6" />,
  stepInto: <path d="M8 2.5v6M5.2 6 8 8.8 10.8 6M5 12.5h6" />,
  stepOver: <path d="M3 8.5a5 5 0 0 1 9.2-1M12.6 4v3.6H9M6.5 12.5h3" />,
  stepOut: <path d="M8 9V3M5.2 5.5 8 2.7l2.8 2.8M5 12.5h6" />,
  snapshots: <path d="M5 3.5v9M5 8.2c4.5 0 6-1.2 6-3.4M3.6 3.5h2.8M3.6 12.5h2.8M9.6 4.6h2.8" />,
  close: <path d="m4 4 8 8M12 4l-8 8" />,
  more: <path d="M3.5 8h.01M8 8h.01M12.5 8h.01" strokeWidth="2.2" />,
  up: <path d="m4 10 4-4 4 4" />,
  down: <path d="m4 6 4 4 4-4" />,
  alert: <path d="M8 2.5 14 13H2zM8 6.5v3M8 11.2v.01" strokeLinejoin="round" />,
  off: <circle cx="8" cy="8" r="4.6" />,
  running: (
    <>
      <circle cx="8" cy="8" r="6" fill="currentColor" stroke="none" />
      <path d="M6.7 5.4v5.2L10.8 8z" className="icon-cut" stroke="none" />
    </>
  ),
  paused: (
    <>
      <circle cx="8" cy="8" r="6" fill="currentColor" stroke="none" />
      <path d="M6.6 5.6v4.8M9.4 5.6v4.8" className="icon-cut-line" strokeWidth="1.6" />
    </>
  ),
  crashed: (
    <>
      <path d="M5.5 2h5L14 5.5v5L10.5 14h-5L2 10.5v-5z" fill="currentColor" stroke="none" />
      <path d="m6 6 4 4M10 6l-4 4" className="icon-cut-line" strokeWidth="1.6" />
    </>
  ),
  failed: (
    <>
      <path d="M8 1.8 14.8 13.6H1.2z" fill="currentColor" strokeLinejoin="round" strokeWidth="1" />
      <path d="M8 6v3.6M8 11.6v.01" className="icon-cut-line" strokeWidth="1.6" />
    </>
  ),
  spinner: (
    <>
      <circle cx="8" cy="8" r="5.2" opacity=".25" />
      <path d="M13.2 8A5.2 5.2 0 0 0 8 2.8" className="icon-spin" />
    </>
  ),
} as const;

export type IconName = keyof typeof shapes;

/** Decoration only: what it means is always said in words beside it or in a label. */
export function Icon({ name }: { name: IconName }) {
  return (
    <svg
      className="icon"
      viewBox="0 0 16 16"
      width="16"
      height="16"
      fill="none"
      stroke="currentColor"
      strokeWidth="1.5"
      strokeLinecap="round"
      aria-hidden="true"
    >
      {shapes[name]}
    </svg>
  );
}
