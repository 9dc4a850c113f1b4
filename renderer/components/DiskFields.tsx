import type { Draft, Messages } from '../draft.ts';
import { Field } from './Field.tsx';
import { Icon } from './Icon.tsx';
import { PathInput } from './PathInput.tsx';

/** As many as the contract allows. */
const MOST = 8;

interface Props {
  disks: Draft['disks'];
  messages: Messages;
  onChange(disks: Draft['disks']): void;
}

/** Raw disk images, attached as virtio disks in this order. */
export function DiskFields({ disks, messages, onChange }: Props) {
  const replace = (place: number, change: Partial<Draft['disks'][number]>): void =>
    onChange(disks.map((disk, index) => (index === place ? { ...disk, ...change } : disk)));
  return (
    <section className="disks" aria-label="Disks">
      {disks.map((disk, index) => (
        <div className="disk" key={index}>
          <Field label={`Disk ${index + 1}`} message={messages[`disks.${index}`]}>
            {(ids) => (
              <PathInput ids={ids} value={disk.path} required onChange={(path) => replace(index, { path })} />
            )}
          </Field>
          <label className="check">
            <input
              type="checkbox"
              checked={disk.readonly}
              onChange={(event) => replace(index, { readonly: event.target.checked })}
            />
            Read only
          </label>
          <button
            type="button"
            className="button button-icon"
            aria-label={`Remove disk ${index + 1}`}
            title="Remove this disk (its image stays where it is)"
            onClick={() => onChange(disks.filter((_, other) => other !== index))}
          >
            <Icon name="close" />
          </button>
        </div>
      ))}
      {disks.length < MOST && (
        <button
          type="button"
          className="button button-quiet"
          onClick={() => onChange([...disks, { path: '', readonly: false }])}
        >
          <Icon name="plus" />
          <span>Add a disk image</span>
        </button>
      )}
    </section>
  );
}
