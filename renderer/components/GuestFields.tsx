import type { Draft, Messages } from '../draft.ts';
import { Field } from './Field.tsx';
import { PathInput } from './PathInput.tsx';

interface Props {
  draft: Draft;
  messages: Messages;
  onChange(change: Partial<Draft>): void;
}

/** The fields that depend on what boots. */
export function GuestFields({ draft, messages, onChange }: Props) {
  const append = (
    <Field label="Command line" message={messages.append}>
      {(ids) => (
        <input
          {...ids}
          type="text"
          className="mono"
          value={draft.append}
          spellCheck={false}
          onChange={(event) => onChange({ append: event.target.value })}
        />
      )}
    </Field>
  );
  const file = (
    <Field label="File" hint="A path on the host." message={messages.file}>
      {(ids) => (
        <PathInput ids={ids} value={draft.file} required onChange={(path) => onChange({ file: path })} />
      )}
    </Field>
  );
  switch (draft.kind) {
    case 'calc':
      return null;
    case 'linux':
      return (
        <>
          <Field label="Kernel" hint="A path on the host, such as /boot/vmlinuz." message={messages.kernel}>
            {(ids) => (
              <PathInput
                ids={ids}
                value={draft.kernel}
                required
                onChange={(path) => onChange({ kernel: path })}
              />
            )}
          </Field>
          <Field label="Initrd (optional)" message={messages.initrd}>
            {(ids) => (
              <PathInput ids={ids} value={draft.initrd} onChange={(path) => onChange({ initrd: path })} />
            )}
          </Field>
          {append}
        </>
      );
    case 'elf':
      return (
        <>
          {file}
          {append}
        </>
      );
    case 'flat':
      return (
        <>
          {file}
          <Field
            label="Load address"
            hint="Where the file goes and where it starts."
            message={messages.address}
          >
            {(ids) => (
              <input
                {...ids}
                type="text"
                className="mono short"
                value={draft.address}
                onChange={(event) => onChange({ address: event.target.value })}
              />
            )}
          </Field>
        </>
      );
  }
}
