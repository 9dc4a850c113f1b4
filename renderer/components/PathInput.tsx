import { useRef } from 'react';
import type { FieldIds } from './Field.tsx';

interface Props {
  ids: FieldIds;
  value: string;
  onChange(path: string): void;
  required?: boolean;
}

/** The path of a file on the host. The desktop app, which is on the host, can look for it. */
export function PathInput({ ids, value, onChange, required }: Props) {
  const picker = useRef<HTMLInputElement>(null);
  const { pathForFile } = window.vitrine ?? {};
  return (
    <div className="path">
      <input
        {...ids}
        type="text"
        className="mono"
        value={value}
        aria-required={required}
        spellCheck={false}
        autoComplete="off"
        onChange={(event) => onChange(event.target.value)}
      />
      {pathForFile !== undefined && (
        <>
          <button type="button" className="button" onClick={() => picker.current?.click()}>
            Browse…
          </button>
          <input
            ref={picker}
            type="file"
            hidden
            aria-hidden="true"
            onChange={(event) => {
              const [file] = event.target.files ?? [];
              if (file !== undefined) onChange(pathForFile(file));
            }}
          />
        </>
      )}
    </div>
  );
}
