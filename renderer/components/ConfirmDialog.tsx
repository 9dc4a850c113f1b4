import type { Question } from '../store.ts';
import { Dialog } from './Dialog.tsx';

/** A question before something is lost. Cancel has the focus: Enter by accident loses nothing. */
export function ConfirmDialog({ question, onClose }: { question: Question; onClose(): void }) {
  return (
    <Dialog title={question.title} role="alertdialog" onClose={onClose}>
      <p className="dialog-text">{question.text}</p>
      <footer className="dialog-foot">
        <button type="button" className="button" data-first onClick={onClose}>
          Cancel
        </button>
        <button
          type="button"
          className={question.danger ? 'button button-danger-solid' : 'button button-primary'}
          onClick={() => {
            onClose();
            question.run();
          }}
        >
          {question.button}
        </button>
      </footer>
    </Dialog>
  );
}
