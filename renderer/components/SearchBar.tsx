import type { SearchAddon } from '@xterm/addon-search';
import { useEffect, useState } from 'react';
import type { KeyboardEvent } from 'react';
import { findColours } from '../terminal.ts';
import { Icon } from './Icon.tsx';

interface Props {
  search: SearchAddon;
  theme: 'light' | 'dark';
  /** Ctrl+F in the field: the guest wanted it. */
  onGuest(): void;
  onClose(): void;
}

/** Finds text in what the console shows and keeps. Enter: upwards, to what is older; Shift+Enter: down. */
export function SearchBar({ search, theme, onGuest, onClose }: Props) {
  const [term, setTerm] = useState('');
  const [found, setFound] = useState<{ index: number; count: number }>({ index: -1, count: 0 });

  useEffect(() => {
    const heard = search.onDidChangeResults(({ resultIndex, resultCount }) =>
      setFound({ index: resultIndex, count: resultCount }),
    );
    return () => {
      heard.dispose();
      search.clearDecorations();
    };
  }, [search]);

  const { match, active, ruler } = findColours[theme];
  const options = {
    decorations: {
      matchBackground: match,
      matchOverviewRuler: ruler,
      activeMatchBackground: active,
      activeMatchColorOverviewRuler: ruler,
    },
  };
  const older = (): void => void search.findPrevious(term, options);
  const newer = (): void => void search.findNext(term, options);
  const type = (text: string): void => {
    setTerm(text);
    if (text === '') search.clearDecorations();
    else search.findPrevious(text, { ...options, incremental: true });
  };
  const press = (event: KeyboardEvent): void => {
    if (event.key === 'Escape') onClose();
    else if (event.key === 'Enter') (event.shiftKey ? newer : older)();
    else if (event.ctrlKey && event.code === 'KeyF') {
      onClose();
      onGuest();
    } else return;
    event.preventDefault();
    event.stopPropagation();
  };
  let summary = '';
  if (term !== '') summary = found.count === 0 ? 'Nothing found' : `${found.index + 1} of ${found.count}`;

  return (
    <div className="search" role="search" onKeyDown={press}>
      <input
        type="text"
        aria-label="Search the console"
        placeholder="Search the console"
        value={term}
        autoFocus
        spellCheck={false}
        onChange={(event) => type(event.target.value)}
      />
      <span className="search-count" role="status">
        {summary}
      </span>
      <button
        type="button"
        className="button button-icon"
        aria-label="Older match"
        title="Older (Enter)"
        onClick={older}
      >
        <Icon name="up" />
      </button>
      <button
        type="button"
        className="button button-icon"
        aria-label="Newer match"
        title="Newer (Shift+Enter)"
        onClick={newer}
      >
        <Icon name="down" />
      </button>
      <button
        type="button"
        className="button button-icon"
        aria-label="Close the search"
        title="Close (Esc)"
        onClick={onClose}
      >
        <Icon name="close" />
      </button>
    </div>
  );
}
