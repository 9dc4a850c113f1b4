import { useId } from 'react';
import type { ReactNode } from 'react';

/** What ties an input to its label, hint and message. */
export interface FieldIds {
  id: string;
  'aria-describedby': string | undefined;
  'aria-invalid': boolean;
}

interface Props {
  label: string;
  hint?: string;
  message: string | undefined;
  children(ids: FieldIds): ReactNode;
}

/** One labelled field, its hint, and beside it what is wrong with its value. */
export function Field({ label, hint, message, children }: Props) {
  const id = useId();
  const described = [hint && `${id}-hint`, message && `${id}-message`].filter(Boolean).join(' ') || undefined;
  return (
    <div className="field">
      <label htmlFor={id}>{label}</label>
      {children({ id, 'aria-describedby': described, 'aria-invalid': message !== undefined })}
      {hint && (
        <p className="field-hint" id={`${id}-hint`}>
          {hint}
        </p>
      )}
      {message && (
        <p className="field-message" id={`${id}-message`}>
          {message}
        </p>
      )}
    </div>
  );
}
