import { useRef, useState } from 'react';
import type { FormEvent } from 'react';
import type { VmInfo } from '../../main/service/contract.ts';
import { sentence } from '../client.ts';
import { checkDraft, draftOf, newDraft, withKind } from '../draft.ts';
import type { Draft } from '../draft.ts';
import { BackendField } from './BackendField.tsx';
import { useApp } from './context.ts';
import { Dialog } from './Dialog.tsx';
import { DiskFields } from './DiskFields.tsx';
import { Field } from './Field.tsx';
import { GuestFields } from './GuestFields.tsx';
import { KindPicker } from './KindPicker.tsx';

/** Creates a machine, or changes one that is off. */
export function MachineDialog({ vm, onClose }: { vm?: VmInfo; onClose(): void }) {
  const store = useApp();
  const form = useRef<HTMLFormElement>(null);
  const taken = store.get().vms.map((each) => each.config.name);
  const [draft, setDraft] = useState<Draft>(() => (vm ? draftOf(vm.config) : newDraft(taken)));
  const [tried, setTried] = useState(false);
  const [working, setWorking] = useState(false);
  const [refusal, setRefusal] = useState<string>();

  const checked = checkDraft(draft);
  // Nothing is called wrong before the user says that it is complete.
  const messages = tried && 'messages' in checked ? checked.messages : {};
  const change = (part: Partial<Draft>): void => setDraft({ ...draft, ...part });

  const submit = async (event: FormEvent): Promise<void> => {
    event.preventDefault();
    setTried(true);
    if ('messages' in checked) {
      requestAnimationFrame(() => form.current?.querySelector<HTMLElement>('[aria-invalid=true]')?.focus());
      return;
    }
    setWorking(true);
    setRefusal(undefined);
    try {
      const saved = vm
        ? await store.client.request('vm.update', { id: vm.id, config: checked.config })
        : await store.client.request('vm.create', checked.config);
      store.changed(saved);
      store.select(saved.id);
      onClose();
    } catch (error) {
      setRefusal(sentence(error));
      setWorking(false);
    }
  };

  return (
    <Dialog title={vm ? `Edit “${vm.config.name}”` : 'New virtual machine'} wide onClose={onClose}>
      <form ref={form} className="form" noValidate onSubmit={(event) => void submit(event)}>
        <div className="form-body">
          <KindPicker value={draft.kind} onChange={(kind) => setDraft(withKind(draft, kind, taken))} />
          <Field label="Name" message={messages.name}>
            {(ids) => (
              <input
                {...ids}
                type="text"
                value={draft.name}
                aria-required="true"
                autoComplete="off"
                onChange={(event) => change({ name: event.target.value })}
              />
            )}
          </Field>
          <GuestFields draft={draft} messages={messages} onChange={change} />
          <div className="form-row">
            <Field label="Memory (MiB)" message={messages.memory}>
              {(ids) => (
                <input
                  {...ids}
                  type="text"
                  inputMode="numeric"
                  value={draft.memory}
                  aria-required="true"
                  autoComplete="off"
                  onChange={(event) => change({ memory: event.target.value })}
                />
              )}
            </Field>
            <BackendField
              value={draft.backend}
              message={messages.backend}
              onChange={(backend) => change({ backend })}
            />
          </div>
          <DiskFields disks={draft.disks} messages={messages} onChange={(disks) => change({ disks })} />
          {refusal && (
            <p className="form-refusal" role="alert">
              {refusal}
            </p>
          )}
        </div>
        <footer className="dialog-foot">
          <button type="button" className="button" onClick={onClose}>
            Cancel
          </button>
          <button type="submit" className="button button-primary" disabled={working}>
            {working && <span className="late-spinner" aria-hidden="true" />}
            {vm ? 'Save' : 'Create'}
          </button>
        </footer>
      </form>
    </Dialog>
  );
}
