; Ends the image: sizes that are known now.
        section .cases
cases_end:
        section .low
low_size equ $ - $$
        section .text
