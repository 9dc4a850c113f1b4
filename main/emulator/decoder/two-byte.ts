/**
 * The two-byte opcode map (escape 0F), in the order of Intel SDM Vol. 2 Appendix A, tables.
 * Columns (see notation.ts): opcode, selecting prefix, mnemonic, operands, attributes.
 */
export const twoByteMap = `
00/0    *        sldt         Rv/Mw
00/1    *        str          Rv/Mw
00/2    *        lldt         Ew
00/3    *        ltr          Ew
00/4    *        verr         Ew
00/5    *        verw         Ew
01/0    *        sgdt         Ms              f64
01/1    *        sidt         Ms              f64
01/2    *        lgdt         Ms              f64
01/3    *        lidt         Ms              f64
01/4    *        smsw         Rv/Mw
01/6    *        lmsw         Ew
01/7m   *        invlpg       M
01/0r1  np       vmcall       -
01/1r0  np       monitor      -               @monitor
01/1r1  np       mwait        -               @monitor
01/1r2  np       clac         -               @smap
01/1r3  np       stac         -               @smap
01/2r0  np       xgetbv       -               @xsave
01/2r1  np       xsetbv       -               @xsave
01/3r1  *        vmmcall      -
01/7r0  *        swapgs       -               o64
01/7r1  *        rdtscp       -               @rdtscp
02      *        lar          Gv,Ew
03      *        lsl          Gv,Ew
05      *        syscall      -
06      *        clts         -
07      *        sysret       -
08      *        invd         -
09      *        wbinvd       -
0B      *        ud2          -
0D      *        nop          Ev
0Dm     *        prefetch     Mb              @3dnowprefetch
0D/1m   *        prefetchw    Mb              @3dnowprefetch
0D/3m   *        prefetchw    Mb              @3dnowprefetch
10      np       movups       Vps,Wps         @sse
10      66       movupd       Vpd,Wpd         @sse2
10      F3       movss        Vss,Wss         @sse
10      F2       movsd        Vsd,Wsd         @sse2
11      np       movups       Wps,Vps         @sse
11      66       movupd       Wpd,Vpd         @sse2
11      F3       movss        Wss,Vss         @sse
11      F2       movsd        Wsd,Vsd         @sse2
12m     np       movlps       Vq,Mq           @sse
12r     np       movhlps      Vq,Uq           @sse
12      66       movlpd       Vq,Mq           @sse2
12      F3       movsldup     Vps,Wps         @pni
12      F2       movddup      Vpd,Wsd         @pni
13      np       movlps       Mq,Vq           @sse
13      66       movlpd       Mq,Vq           @sse2
14      np       unpcklps     Vps,Wps         @sse
14      66       unpcklpd     Vpd,Wpd         @sse2
15      np       unpckhps     Vps,Wps         @sse
15      66       unpckhpd     Vpd,Wpd         @sse2
16m     np       movhps       Vq,Mq           @sse
16r     np       movlhps      Vq,Uq           @sse
16      66       movhpd       Vq,Mq           @sse2
16      F3       movshdup     Vps,Wps         @pni
17      np       movhps       Mq,Vq           @sse
17      66       movhpd       Mq,Vq           @sse2
18      *        nop          Ev
18/0m   *        prefetchnta  Mb              @sse
18/1m   *        prefetcht0   Mb              @sse
18/2m   *        prefetcht1   Mb              @sse
18/3m   *        prefetcht2   Mb              @sse
19      *        nop          Ev
1A      *        nop          Ev
1B      *        nop          Ev
1C      *        nop          Ev
1D      *        nop          Ev
1E      *        nop          Ev
1F      *        nop          Ev
20      *        mov          Ry,Cy           f64 anymod
21      *        mov          Ry,Dy           f64 anymod
22      *        mov          Cy,Ry           f64 anymod
23      *        mov          Dy,Ry           f64 anymod
28      np       movaps       Vps,Wps         @sse
28      66       movapd       Vpd,Wpd         @sse2
29      np       movaps       Wps,Vps         @sse
29      66       movapd       Wpd,Vpd         @sse2
2A      np       cvtpi2ps     Vq,Qq           @sse
2A      66       cvtpi2pd     Vpd,Qq          @sse2
2A      F3       cvtsi2ss     Vss,Ey          @sse
2A      F2       cvtsi2sd     Vsd,Ey          @sse2
2B      np       movntps      Mps,Vps         @sse
2B      66       movntpd      Mpd,Vpd         @sse2
2C      np       cvttps2pi    Pq,Wq           @sse
2C      66       cvttpd2pi    Pq,Wpd          @sse2
2C      F3       cvttss2si    Gy,Wss          @sse
2C      F2       cvttsd2si    Gy,Wsd          @sse2
2D      np       cvtps2pi     Pq,Wq           @sse
2D      66       cvtpd2pi     Pq,Wpd          @sse2
2D      F3       cvtss2si     Gy,Wss          @sse
2D      F2       cvtsd2si     Gy,Wsd          @sse2
2E      np       ucomiss      Vss,Wss         @sse
2E      66       ucomisd      Vsd,Wsd         @sse2
2F      np       comiss       Vss,Wss         @sse
2F      66       comisd       Vsd,Wsd         @sse2
30      *        wrmsr        -
31      *        rdtsc        -
32      *        rdmsr        -
33      *        rdpmc        -
34      *        sysenter     -
35      *        sysexit      -
40+c    *        cmovcc       Gv,Ev
50      np       movmskps     Gy,Ups          @sse
50      66       movmskpd     Gy,Upd          @sse2
51      np       sqrtps       Vps,Wps         @sse
51      66       sqrtpd       Vpd,Wpd         @sse2
51      F3       sqrtss       Vss,Wss         @sse
51      F2       sqrtsd       Vsd,Wsd         @sse2
52      np       rsqrtps      Vps,Wps         @sse
52      F3       rsqrtss      Vss,Wss         @sse
53      np       rcpps        Vps,Wps         @sse
53      F3       rcpss        Vss,Wss         @sse
54      np       andps        Vps,Wps         @sse
54      66       andpd        Vpd,Wpd         @sse2
55      np       andnps       Vps,Wps         @sse
55      66       andnpd       Vpd,Wpd         @sse2
56      np       orps         Vps,Wps         @sse
56      66       orpd         Vpd,Wpd         @sse2
57      np       xorps        Vps,Wps         @sse
57      66       xorpd        Vpd,Wpd         @sse2
58      np       addps        Vps,Wps         @sse
58      66       addpd        Vpd,Wpd         @sse2
58      F3       addss        Vss,Wss         @sse
58      F2       addsd        Vsd,Wsd         @sse2
59      np       mulps        Vps,Wps         @sse
59      66       mulpd        Vpd,Wpd         @sse2
59      F3       mulss        Vss,Wss         @sse
59      F2       mulsd        Vsd,Wsd         @sse2
5A      np       cvtps2pd     Vpd,Wq          @sse2
5A      66       cvtpd2ps     Vq,Wpd          @sse2
5A      F3       cvtss2sd     Vsd,Wss         @sse2
5A      F2       cvtsd2ss     Vss,Wsd         @sse2
5B      np       cvtdq2ps     Vps,Wdq         @sse2
5B      66       cvtps2dq     Vdq,Wps         @sse2
5B      F3       cvttps2dq    Vdq,Wps         @sse2
5C      np       subps        Vps,Wps         @sse
5C      66       subpd        Vpd,Wpd         @sse2
5C      F3       subss        Vss,Wss         @sse
5C      F2       subsd        Vsd,Wsd         @sse2
5D      np       minps        Vps,Wps         @sse
5D      66       minpd        Vpd,Wpd         @sse2
5D      F3       minss        Vss,Wss         @sse
5D      F2       minsd        Vsd,Wsd         @sse2
5E      np       divps        Vps,Wps         @sse
5E      66       divpd        Vpd,Wpd         @sse2
5E      F3       divss        Vss,Wss         @sse
5E      F2       divsd        Vsd,Wsd         @sse2
5F      np       maxps        Vps,Wps         @sse
5F      66       maxpd        Vpd,Wpd         @sse2
5F      F3       maxss        Vss,Wss         @sse
5F      F2       maxsd        Vsd,Wsd         @sse2
60      np       punpcklbw    Pq,Qd           @mmx
60      66       punpcklbw    Vdq,Wdq         @sse2
61      np       punpcklwd    Pq,Qd           @mmx
61      66       punpcklwd    Vdq,Wdq         @sse2
62      np       punpckldq    Pq,Qd           @mmx
62      66       punpckldq    Vdq,Wdq         @sse2
63      np       packsswb     Pq,Qq           @mmx
63      66       packsswb     Vdq,Wdq         @sse2
64      np       pcmpgtb      Pq,Qq           @mmx
64      66       pcmpgtb      Vdq,Wdq         @sse2
65      np       pcmpgtw      Pq,Qq           @mmx
65      66       pcmpgtw      Vdq,Wdq         @sse2
66      np       pcmpgtd      Pq,Qq           @mmx
66      66       pcmpgtd      Vdq,Wdq         @sse2
67      np       packuswb     Pq,Qq           @mmx
67      66       packuswb     Vdq,Wdq         @sse2
68      np       punpckhbw    Pq,Qq           @mmx
68      66       punpckhbw    Vdq,Wdq         @sse2
69      np       punpckhwd    Pq,Qq           @mmx
69      66       punpckhwd    Vdq,Wdq         @sse2
6A      np       punpckhdq    Pq,Qq           @mmx
6A      66       punpckhdq    Vdq,Wdq         @sse2
6B      np       packssdw     Pq,Qq           @mmx
6B      66       packssdw     Vdq,Wdq         @sse2
6C      66       punpcklqdq   Vdq,Wdq         @sse2
6D      66       punpckhqdq   Vdq,Wdq         @sse2
6E      np       movd         Pd,Ed           @mmx
6E      np.W1    movq         Pq,Eq           @mmx
6E      66       movd         Vd,Ed           @sse2
6E      66.W1    movq         Vq,Eq           @sse2
6F      np       movq         Pq,Qq           @mmx
6F      66       movdqa       Vdq,Wdq         @sse2
6F      F3       movdqu       Vdq,Wdq         @sse2
70      np       pshufw       Pq,Qq,Ib        @sse
70      66       pshufd       Vdq,Wdq,Ib      @sse2
70      F3       pshufhw      Vdq,Wdq,Ib      @sse2
70      F2       pshuflw      Vdq,Wdq,Ib      @sse2
71/2    np       psrlw        Nq,Ib           @mmx
71/2    66       psrlw        Udq,Ib          @sse2
71/4    np       psraw        Nq,Ib           @mmx
71/4    66       psraw        Udq,Ib          @sse2
71/6    np       psllw        Nq,Ib           @mmx
71/6    66       psllw        Udq,Ib          @sse2
72/2    np       psrld        Nq,Ib           @mmx
72/2    66       psrld        Udq,Ib          @sse2
72/4    np       psrad        Nq,Ib           @mmx
72/4    66       psrad        Udq,Ib          @sse2
72/6    np       pslld        Nq,Ib           @mmx
72/6    66       pslld        Udq,Ib          @sse2
73/2    np       psrlq        Nq,Ib           @mmx
73/2    66       psrlq        Udq,Ib          @sse2
73/3    66       psrldq       Udq,Ib          @sse2
73/6    np       psllq        Nq,Ib           @mmx
73/6    66       psllq        Udq,Ib          @sse2
73/7    66       pslldq       Udq,Ib          @sse2
74      np       pcmpeqb      Pq,Qq           @mmx
74      66       pcmpeqb      Vdq,Wdq         @sse2
75      np       pcmpeqw      Pq,Qq           @mmx
75      66       pcmpeqw      Vdq,Wdq         @sse2
76      np       pcmpeqd      Pq,Qq           @mmx
76      66       pcmpeqd      Vdq,Wdq         @sse2
77      np       emms         -               @mmx
7C      66       haddpd       Vpd,Wpd         @pni
7C      F2       haddps       Vps,Wps         @pni
7D      66       hsubpd       Vpd,Wpd         @pni
7D      F2       hsubps       Vps,Wps         @pni
7E      np       movd         Ed,Pd           @mmx
7E      np.W1    movq         Eq,Pq           @mmx
7E      66       movd         Ed,Vd           @sse2
7E      66.W1    movq         Eq,Vq           @sse2
7E      F3       movq         Vq,Wq           @sse2
7F      np       movq         Qq,Pq           @mmx
7F      66       movdqa       Wdq,Vdq         @sse2
7F      F3       movdqu       Wdq,Vdq         @sse2
80+c    *        jcc          Jz              f64
90+c    *        setcc        Eb
A0      *        push         FS              d64
A1      *        pop          FS              d64
A2      *        cpuid        -
A3      *        bt           Ev,Gv
A4      *        shld         Ev,Gv,Ib
A5      *        shld         Ev,Gv,CL
A8      *        push         GS              d64
A9      *        pop          GS              d64
AA      *        rsm          -
AB      *        bts          Ev,Gv           lock
AC      *        shrd         Ev,Gv,Ib
AD      *        shrd         Ev,Gv,CL
AE/0m   np       fxsave       M               @fxsr
AE/0m   np.W1    fxsave64     M               @fxsr
AE/1m   np       fxrstor      M               @fxsr
AE/1m   np.W1    fxrstor64    M               @fxsr
AE/2m   np       ldmxcsr      Md              @sse
AE/3m   np       stmxcsr      Md              @sse
AE/4m   np       xsave        M               @xsave
AE/4m   np.W1    xsave64      M               @xsave
AE/5m   np       xrstor       M               @xsave
AE/5m   np.W1    xrstor64     M               @xsave
AE/6m   np       xsaveopt     M               @xsaveopt
AE/6m   np.W1    xsaveopt64   M               @xsaveopt
AE/6m   66       clwb         Mb              @clwb
AE/7m   np       clflush      Mb              @clflush
AE/7m   66       clflushopt   Mb              @clflushopt
AE/0r   F3       rdfsbase     Ry              o64 @fsgsbase
AE/1r   F3       rdgsbase     Ry              o64 @fsgsbase
AE/2r   F3       wrfsbase     Ry              o64 @fsgsbase
AE/3r   F3       wrgsbase     Ry              o64 @fsgsbase
AE/5r   np       lfence       -               @sse2
AE/6r   np       mfence       -               @sse2
AE/7r   np       sfence       -               @sse
AF      *        imul         Gv,Ev
B0      *        cmpxchg      Eb,Gb           lock
B1      *        cmpxchg      Ev,Gv           lock
B2      *        lss          Gv,Mp
B3      *        btr          Ev,Gv           lock
B4      *        lfs          Gv,Mp
B5      *        lgs          Gv,Mp
B6      *        movzx        Gv,Eb
B7      *        movzx        Gv,Ew
B8      F3       popcnt       Gv,Ev           @popcnt
B9      *        ud1          Gv,Ev
BA/4    *        bt           Ev,Ib
BA/5    *        bts          Ev,Ib           lock
BA/6    *        btr          Ev,Ib           lock
BA/7    *        btc          Ev,Ib           lock
BB      *        btc          Ev,Gv           lock
BC      *        bsf          Gv,Ev
BC      F3       tzcnt        Gv,Ev           @bmi1
BD      *        bsr          Gv,Ev
BD      F3       lzcnt        Gv,Ev           @lzcnt
BE      *        movsx        Gv,Eb
BF      *        movsx        Gv,Ew
C0      *        xadd         Eb,Gb           lock
C1      *        xadd         Ev,Gv           lock
C2      np       cmpps        Vps,Wps,Ib      @sse
C2      66       cmppd        Vpd,Wpd,Ib      @sse2
C2      F3       cmpss        Vss,Wss,Ib      @sse
C2      F2       cmpsd        Vsd,Wsd,Ib      @sse2
C3      np       movnti       My,Gy           @sse2
C4      np       pinsrw       Pq,Ry/Mw,Ib     @sse
C4      66       pinsrw       Vdq,Ry/Mw,Ib    @sse2
C5      np       pextrw       Gy,Nq,Ib        @sse
C5      66       pextrw       Gy,Udq,Ib       @sse2
C6      np       shufps       Vps,Wps,Ib      @sse
C6      66       shufpd       Vpd,Wpd,Ib      @sse2
C7/1m   *        cmpxchg8b    Mq              lock
C7/1m   *.W1     cmpxchg16b   Mdq             lock @cx16
C7/4m   np       xsavec       M               @xsavec
C7/4m   np.W1    xsavec64     M               @xsavec
C7/6r   np|66    rdrand       Rv              @rdrand
C7/7r   np|66    rdseed       Rv              @rdseed
C7/7r   F3       rdpid        Ry              f64 @rdpid
C8+r    *        bswap        Zv
D0      66       addsubpd     Vpd,Wpd         @pni
D0      F2       addsubps     Vps,Wps         @pni
D1      np       psrlw        Pq,Qq           @mmx
D1      66       psrlw        Vdq,Wdq         @sse2
D2      np       psrld        Pq,Qq           @mmx
D2      66       psrld        Vdq,Wdq         @sse2
D3      np       psrlq        Pq,Qq           @mmx
D3      66       psrlq        Vdq,Wdq         @sse2
D4      np       paddq        Pq,Qq           @sse2
D4      66       paddq        Vdq,Wdq         @sse2
D5      np       pmullw       Pq,Qq           @mmx
D5      66       pmullw       Vdq,Wdq         @sse2
D6      66       movq         Wq,Vq           @sse2
D6      F3       movq2dq      Vdq,Nq          @sse2
D6      F2       movdq2q      Pq,Uq           @sse2
D7      np       pmovmskb     Gy,Nq           @sse
D7      66       pmovmskb     Gy,Udq          @sse2
D8      np       psubusb      Pq,Qq           @mmx
D8      66       psubusb      Vdq,Wdq         @sse2
D9      np       psubusw      Pq,Qq           @mmx
D9      66       psubusw      Vdq,Wdq         @sse2
DA      np       pminub       Pq,Qq           @sse
DA      66       pminub       Vdq,Wdq         @sse2
DB      np       pand         Pq,Qq           @mmx
DB      66       pand         Vdq,Wdq         @sse2
DC      np       paddusb      Pq,Qq           @mmx
DC      66       paddusb      Vdq,Wdq         @sse2
DD      np       paddusw      Pq,Qq           @mmx
DD      66       paddusw      Vdq,Wdq         @sse2
DE      np       pmaxub       Pq,Qq           @sse
DE      66       pmaxub       Vdq,Wdq         @sse2
DF      np       pandn        Pq,Qq           @mmx
DF      66       pandn        Vdq,Wdq         @sse2
E0      np       pavgb        Pq,Qq           @sse
E0      66       pavgb        Vdq,Wdq         @sse2
E1      np       psraw        Pq,Qq           @mmx
E1      66       psraw        Vdq,Wdq         @sse2
E2      np       psrad        Pq,Qq           @mmx
E2      66       psrad        Vdq,Wdq         @sse2
E3      np       pavgw        Pq,Qq           @sse
E3      66       pavgw        Vdq,Wdq         @sse2
E4      np       pmulhuw      Pq,Qq           @sse
E4      66       pmulhuw      Vdq,Wdq         @sse2
E5      np       pmulhw       Pq,Qq           @mmx
E5      66       pmulhw       Vdq,Wdq         @sse2
E6      66       cvttpd2dq    Vq,Wpd          @sse2
E6      F3       cvtdq2pd     Vpd,Wq          @sse2
E6      F2       cvtpd2dq     Vq,Wpd          @sse2
E7      np       movntq       Mq,Pq           @sse
E7      66       movntdq      Mdq,Vdq         @sse2
E8      np       psubsb       Pq,Qq           @mmx
E8      66       psubsb       Vdq,Wdq         @sse2
E9      np       psubsw       Pq,Qq           @mmx
E9      66       psubsw       Vdq,Wdq         @sse2
EA      np       pminsw       Pq,Qq           @sse
EA      66       pminsw       Vdq,Wdq         @sse2
EB      np       por          Pq,Qq           @mmx
EB      66       por          Vdq,Wdq         @sse2
EC      np       paddsb       Pq,Qq           @mmx
EC      66       paddsb       Vdq,Wdq         @sse2
ED      np       paddsw       Pq,Qq           @mmx
ED      66       paddsw       Vdq,Wdq         @sse2
EE      np       pmaxsw       Pq,Qq           @sse
EE      66       pmaxsw       Vdq,Wdq         @sse2
EF      np       pxor         Pq,Qq           @mmx
EF      66       pxor         Vdq,Wdq         @sse2
F0      F2       lddqu        Vdq,Mdq         @pni
F1      np       psllw        Pq,Qq           @mmx
F1      66       psllw        Vdq,Wdq         @sse2
F2      np       pslld        Pq,Qq           @mmx
F2      66       pslld        Vdq,Wdq         @sse2
F3      np       psllq        Pq,Qq           @mmx
F3      66       psllq        Vdq,Wdq         @sse2
F4      np       pmuludq      Pq,Qq           @sse2
F4      66       pmuludq      Vdq,Wdq         @sse2
F5      np       pmaddwd      Pq,Qq           @mmx
F5      66       pmaddwd      Vdq,Wdq         @sse2
F6      np       psadbw       Pq,Qq           @sse
F6      66       psadbw       Vdq,Wdq         @sse2
F7      np       maskmovq     Pq,Nq           @sse
F7      66       maskmovdqu   Vdq,Udq         @sse2
F8      np       psubb        Pq,Qq           @mmx
F8      66       psubb        Vdq,Wdq         @sse2
F9      np       psubw        Pq,Qq           @mmx
F9      66       psubw        Vdq,Wdq         @sse2
FA      np       psubd        Pq,Qq           @mmx
FA      66       psubd        Vdq,Wdq         @sse2
FB      np       psubq        Pq,Qq           @sse2
FB      66       psubq        Vdq,Wdq         @sse2
FC      np       paddb        Pq,Qq           @mmx
FC      66       paddb        Vdq,Wdq         @sse2
FD      np       paddw        Pq,Qq           @mmx
FD      66       paddw        Vdq,Wdq         @sse2
FE      np       paddd        Pq,Qq           @mmx
FE      66       paddd        Vdq,Wdq         @sse2
FF      *        ud0          Gv,Ev
`;
