import { actions } from '../actions.ts';
import type { Action } from '../actions.ts';
import { spell } from '../keyboard.ts';
import { useApp, useAppState } from './context.ts';
import { Dialog } from './Dialog.tsx';

const groups: { group: Action['group']; title: string }[] = [
  { group: 'machine', title: 'Machine' },
  { group: 'library', title: 'Library' },
  { group: 'console', title: 'Console' },
  { group: 'inside', title: 'Inside the machine' },
  { group: 'window', title: 'Window' },
];

/** Every shortcut, from the same table that runs them. */
export function HelpDialog({ onClose }: { onClose(): void }) {
  const store = useApp();
  const letterKeys = useAppState((state) => state.preferences.letterKeys);
  return (
    <Dialog title="Help and shortcuts" wide onClose={onClose}>
      <p className="dialog-text">
        Press a key by itself; while you type into the console, hold <kbd>Ctrl</kbd> + <kbd>Shift</kbd> with
        it, so that the letter alone goes to the guest. A browser may keep some of these for itself (
        <kbd>Ctrl+Shift+N</kbd>): leave the console with <kbd>Ctrl+Shift+L</kbd> first.
      </p>
      <div className="shortcuts">
        {groups.map(({ group, title }) => (
          <section key={group} aria-label={title}>
            <h3>{title}</h3>
            <dl>
              {actions
                .filter((action) => action.group === group)
                .map((action) => (
                  <div key={action.id}>
                    <dt>{action.label}</dt>
                    <dd>
                      <kbd>{spell(action.key, action.inConsole ?? false)}</kbd>
                    </dd>
                  </div>
                ))}
            </dl>
          </section>
        ))}
      </div>
      <p className="dialog-text">
        <kbd>Ctrl+F</kbd> searches the console as well; pressed again in the search field, it goes to the
        guest.
      </p>
      <label className="check">
        <input
          type="checkbox"
          checked={letterKeys}
          onChange={(event) => store.prefer({ letterKeys: event.target.checked })}
        />
        Keys by themselves are shortcuts
      </label>
      <footer className="dialog-foot">
        <button type="button" className="button button-primary" data-first onClick={onClose}>
          Done
        </button>
      </footer>
    </Dialog>
  );
}
