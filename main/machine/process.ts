import { prepareVcpuThread } from './entry.ts';

// The process of one VM. Its first vCPU's thread takes as long to come up as everything that the machine is made of, so
// that begins before all else.
prepareVcpuThread();
await import('./process-messages.ts');
