import { Component } from 'react';
import type { ReactNode } from 'react';

interface Props {
  children: ReactNode;
}

/** The last resort: a fault of the window must not leave it blank. The machines run elsewhere and go on. */
export class ErrorBoundary extends Component<Props, { error: Error | undefined }> {
  override state: { error: Error | undefined } = { error: undefined };

  static getDerivedStateFromError(error: unknown): { error: Error } {
    return { error: error instanceof Error ? error : new Error(String(error)) };
  }

  override render(): ReactNode {
    const { error } = this.state;
    if (error === undefined) return this.props.children;
    return (
      <main className="empty" role="alert">
        <h1>This window ran into a fault</h1>
        <p>
          Your virtual machines are not affected: they keep running. Loading the window again brings it back.
        </p>
        <pre>{error.message}</pre>
        <button type="button" className="button button-primary" onClick={() => location.reload()}>
          Load again
        </button>
      </main>
    );
  }
}
