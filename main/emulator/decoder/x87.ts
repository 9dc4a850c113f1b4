/**
 * The x87 escapes D8 to DF, in the order of Intel SDM Vol. 2 Appendix A, tables.
 * Columns (see notation.ts): opcode, selecting prefix, mnemonic, operands, attributes.
 *
 * The encodings that the manual leaves blank but processors accept stand with the instruction they are an alias
 * of: FCOM at DC D0, FCOMP at DC D8 and DE D0, FXCH at DD C8 and DF C8, FSTP at DF D0 and DF D8, and the 8087's FENI
 * and FDISI and the 80287's FSETPM at DB E0, E1 and E4, which do nothing since the 80387. Two have names of their
 * own: FFREEP at DF C0 (FFREE, then pop), and FSTPNCE at D9 D8, an FSTP to which an empty ST(0) is no underflow (it
 * pops and flags nothing: seen on a Zen 5, where DF D0 and DF D8 flag it as FSTP does).
 */
export const x87Map = `
D8/0m  *  fadd      Md
D8/1m  *  fmul      Md
D8/2m  *  fcom      Md
D8/3m  *  fcomp     Md
D8/4m  *  fsub      Md
D8/5m  *  fsubr     Md
D8/6m  *  fdiv      Md
D8/7m  *  fdivr     Md
D8/0r  *  fadd      ST0,STi
D8/1r  *  fmul      ST0,STi
D8/2r  *  fcom      ST0,STi
D8/3r  *  fcomp     ST0,STi
D8/4r  *  fsub      ST0,STi
D8/5r  *  fsubr     ST0,STi
D8/6r  *  fdiv      ST0,STi
D8/7r  *  fdivr     ST0,STi
D9/0m  *  fld       Md
D9/2m  *  fst       Md
D9/3m  *  fstp      Md
D9/4m  *  fldenv    M           noW
D9/5m  *  fldcw     Mw
D9/6m  *  fnstenv   M           noW
D9/7m  *  fnstcw    Mw
D9/0r  *  fld       STi
D9/1r  *  fxch      ST0,STi
D9/2r0 *  fnop      -
D9/3r  *  fstpnce   STi
D9/4r0 *  fchs      -
D9/4r1 *  fabs      -
D9/4r4 *  ftst      -
D9/4r5 *  fxam      -
D9/5r0 *  fld1      -
D9/5r1 *  fldl2t    -
D9/5r2 *  fldl2e    -
D9/5r3 *  fldpi     -
D9/5r4 *  fldlg2    -
D9/5r5 *  fldln2    -
D9/5r6 *  fldz      -
D9/6r0 *  f2xm1     -
D9/6r1 *  fyl2x     -
D9/6r2 *  fptan     -
D9/6r3 *  fpatan    -
D9/6r4 *  fxtract   -
D9/6r5 *  fprem1    -
D9/6r6 *  fdecstp   -
D9/6r7 *  fincstp   -
D9/7r0 *  fprem     -
D9/7r1 *  fyl2xp1   -
D9/7r2 *  fsqrt     -
D9/7r3 *  fsincos   -
D9/7r4 *  frndint   -
D9/7r5 *  fscale    -
D9/7r6 *  fsin      -
D9/7r7 *  fcos      -
DA/0m  *  fiadd     Md
DA/1m  *  fimul     Md
DA/2m  *  ficom     Md
DA/3m  *  ficomp    Md
DA/4m  *  fisub     Md
DA/5m  *  fisubr    Md
DA/6m  *  fidiv     Md
DA/7m  *  fidivr    Md
DA/0r  *  fcmovcc   ST0,STi     cc=2
DA/1r  *  fcmovcc   ST0,STi     cc=4
DA/2r  *  fcmovcc   ST0,STi     cc=6
DA/3r  *  fcmovcc   ST0,STi     cc=10
DA/5r1 *  fucompp   -
DB/0m  *  fild      Md
DB/1m  *  fisttp    Md          @pni
DB/2m  *  fist      Md
DB/3m  *  fistp     Md
DB/5m  *  fld       Mt
DB/7m  *  fstp      Mt
DB/0r  *  fcmovcc   ST0,STi     cc=3
DB/1r  *  fcmovcc   ST0,STi     cc=5
DB/2r  *  fcmovcc   ST0,STi     cc=7
DB/3r  *  fcmovcc   ST0,STi     cc=11
DB/4r0 *  fnop      -
DB/4r1 *  fnop      -
DB/4r2 *  fnclex    -
DB/4r3 *  fninit    -
DB/4r4 *  fnop      -
DB/5r  *  fucomi    ST0,STi
DB/6r  *  fcomi     ST0,STi
DC/0m  *  fadd      Mq
DC/1m  *  fmul      Mq
DC/2m  *  fcom      Mq
DC/3m  *  fcomp     Mq
DC/4m  *  fsub      Mq
DC/5m  *  fsubr     Mq
DC/6m  *  fdiv      Mq
DC/7m  *  fdivr     Mq
DC/0r  *  fadd      STi,ST0
DC/1r  *  fmul      STi,ST0
DC/2r  *  fcom      ST0,STi
DC/3r  *  fcomp     ST0,STi
DC/4r  *  fsubr     STi,ST0
DC/5r  *  fsub      STi,ST0
DC/6r  *  fdivr     STi,ST0
DC/7r  *  fdiv      STi,ST0
DD/0m  *  fld       Mq
DD/1m  *  fisttp    Mq          @pni
DD/2m  *  fst       Mq
DD/3m  *  fstp      Mq
DD/4m  *  frstor    M           noW
DD/6m  *  fnsave    M           noW
DD/7m  *  fnstsw    Mw
DD/0r  *  ffree     STi
DD/1r  *  fxch      ST0,STi
DD/2r  *  fst       STi
DD/3r  *  fstp      STi
DD/4r  *  fucom     ST0,STi
DD/5r  *  fucomp    ST0,STi
DE/0m  *  fiadd     Mw
DE/1m  *  fimul     Mw
DE/2m  *  ficom     Mw
DE/3m  *  ficomp    Mw
DE/4m  *  fisub     Mw
DE/5m  *  fisubr    Mw
DE/6m  *  fidiv     Mw
DE/7m  *  fidivr    Mw
DE/0r  *  faddp     STi,ST0
DE/1r  *  fmulp     STi,ST0
DE/2r  *  fcomp     ST0,STi
DE/3r1 *  fcompp    -
DE/4r  *  fsubrp    STi,ST0
DE/5r  *  fsubp     STi,ST0
DE/6r  *  fdivrp    STi,ST0
DE/7r  *  fdivp     STi,ST0
DF/0m  *  fild      Mw
DF/1m  *  fisttp    Mw          @pni
DF/2m  *  fist      Mw
DF/3m  *  fistp     Mw
DF/4m  *  fbld      Mt
DF/5m  *  fild      Mq
DF/6m  *  fbstp     Mt
DF/7m  *  fistp     Mq
DF/0r  *  ffreep    STi
DF/1r  *  fxch      ST0,STi
DF/2r  *  fstp      STi
DF/3r  *  fstp      STi
DF/4r0 *  fnstsw    AX
DF/5r  *  fucomip   ST0,STi
DF/6r  *  fcomip    ST0,STi
`;
