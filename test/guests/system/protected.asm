; 32-bit protected mode, and the modes that hang on it.
%include "harness32.asm"
%include "exceptions.asm"
%include "segments.asm"
%include "gates.asm"
%include "tasks.asm"
%include "modes.asm"
%include "footer.asm"
