import type { Decoder } from '../decoder/decoder.ts';
import { DecodeStatus, Instruction } from '../instruction.ts';
import { codeSizeOf, Context } from './form.ts';
import type { Handlers } from './handlers.ts';

const FLAT_32 = Context.CODE_32 | Context.STACK_32 | Context.FLAT;

/** Instructions in hexadecimal, and the context that they were met in. */
interface Usual {
  readonly context: number;
  readonly code: string;
}

/**
 * Instructions that Linux is made of, one of each form, for 64- and for 32-bit kernels: the forms that Debian's 6.1 cloud and
 * 686 kernels had more than twice among the code that they ran from the start to a program that forks. Their handlers
 * are made together, because five hundred modules of a few handlers each took 7 % of a boot, and because what is made for
 * one vCPU is good for the next.
 */
const USUAL: readonly (readonly Usual[])[] = [
  [
    {
      context: Context.CODE_64 | Context.STACK_32,
      code: `
        00cb 010a 01140b 01c0 0210 0317 031c11 056c070000 08d0 0902 09f2 0a442410 0b10 0c80 0d1000008f 0f0110
        0f011b 0f01ca 0f01cb 0f01f8 0f05 0f09 0f0d0b 0f0d0c03 0f180c03 0f180f 0f1f00 0f1f440000 0f20e0 0f22e0
        0f23c6 0f30 0f31 0f32 0f42c1 0f43c2 0f44442414 0f44d0 0f45e8 0f46d8 0f47d8 0f48d0 0f49c8 0f4cd0 0f4dc3
        0f4ec2 0f4fc2 0f92c1 0f9344241e 0f93c0 0f940424 0f94c0 0f9503 0f95c0 0f96c0 0f97c0 0f9fc2 0fa2 0faee8
        0faf5318 0fafd6 0fb60c07 0fb617 0fb6c0 0fb707 0fb70c77 0fb7f6 0fbae714 0fbcdd 0fbdfa 0fbe0c16 0fbe12
        0fbed2 0fbf00 0fbfe9 0fc8 19c0 1cff 20d0 21f7 2303 23449418 2403 250000ff60 290a 29d0 2b18 2b1c86
        2d05000040 30d2 31c0 320c3e 3246ff 333a 333c8a 3567c6086b 3803 381406 38c2 390c02 390f 39c3 3a0c06
        3a500d 3b13 3c03 3e0fb117 3e0fc113 3e480fb117 3e480fc10439 3e480fc74e20 3e8020fb 3eff03 3eff08 412200
        41ff17 423b2c28 48010a 4801c5 48031401 480500100000 480906 4809d7 480b4710 480dffff1f00 480f42c2
        480f433424 480f43c3 480f447518 480f44c1 480f45c2 480f46d8 480f49ca 480f4cf0 480f4dd3 480f4ed1 480f4fc8
        480fa306 480fab17 480facd020 480fadd0 480fb317 480fbae039 480fbaee3f 480fbaf03f 480fbdc9 480fbec0
        480fbf474a 480fc110 480fc7f2 480fc7f8 480fce 4811ce 4819d2 482106 4821c5 482302 482500f0ffff 482903
        4829f9 482d00000001 4831d0 483302 48330cc6 483910 48391c11 486316 4863ff 486b05755f1f0118 486bee18
        48830801 488320fe 48833800 48833cd800 4883680801 4883c101 4883ca63 4883deff 4883e1f0 4883ec18 4883f0ff
        4883f803 48854740 4885d2 488713 488902 488914cb 488b0417 488d37 4898 4899 48a9fdffffff 48c1cb07 48c1e720
        48c70300000000 48c704c300000000 48c7c200004094 48cb 48cf 48d1c5 48d1fa 48d3e0 48d3e8 48d3f8
        48f7009fffffff 48f7742408 48f7d0 48f7db 48f7e2 48f7ee 48f7f6 48ff03 48ff0b 48ffc5 48ffc8 49010cd7
        490f47dd 490f48cc 490faf4718 490fba2e0c 490fba300c 493b16 49830701 498384c15001000001 4983d400 4989f7
        498b07 49d1ee 49f7f8 4a2314c7 4a2b8425c0030000 4c0301 4c0faff2 4c39c1 4c8d0417 4d0fa3d3 4d2b06 4e631c9b
        50 5b 650fb00f 65480fb11da513956b 65480fc70f 65483b06 6548ff00 6548ff4820 656609054440b96b
        656641c740120300 65ff00 65ff08 66016810 6603040a 66090553e0bbff 660b5608 660d0080 660f1f440000 660f62e5
        660f6ce6 660f6e2486 660f6f15498d2501 660f70c093 660f72d10c 660fefd8 660ffec4 66253f10 6631ff 663903
        6639d0 663b4802 66410f3800dc 66410f72f014 66410febc8 664183461801 66440f6fd0 66448b5416fe 6681cdf540
        66833b00 6683447c5001 66834b4802 66836302f7 66837c850000 6683e720 6683f83f 6685c0 66891f 66893411 668b03
        668ce0 6690 66a949fe 66c1c208 66c742100000 66d1e8 66ed 66f74708ff0f 6a10 6b3714 6bff38 7053 72a7 7307
        740d 75f4 76df 7747 7844 790c 7c35 7d0f 7e07 7f1f 802b01 803c130a 803f00 80450501 804d0420 80cc01 80daff
        80e702 80f2ff 830601 830a08 8326fe 832b01 833b01 8344930401 83c001 83c801 83d600 83d9ff 83e207 83e801
        83f001 83f801 84d2 85702c 85c0 8710 8802 880c10 88d7 890e 8934b8 89e8 8a03 8a1413 8b0c02 8b3a 8cd0
        8d0c03 8d30 8ed8 90 99 9c 9d a802 a9ffffff3f b001 ba10000000 c1ce0c c1e205 c3 c60300 c6040300
        c7048300000000 c70700000000 c9 cc d0e8 d1c0 d1e8 d1f8 d3e0 d3ed d3f8 dbe3 e461 e661 e8c2f1d600 eb1d ec
        ed ee ef f00fb117 f00fc107 f048010431 f048014228 f0480fab17 f0480fb113 f0480fc107 f0480fc74d20
        f048ff4220 f04981456000100000 f04c0fb328 f0800801 f0834424fc00 f0ff4360 f30f6f07 f30f7f07 f3480fb8c7
        f3480fbcc9 f348a5 f348ab f390 f3a4 f3a5 f3aa f3ab f60301 f6040210 f700000c0000 f77c2408 f7d7 f7d8 f7e2
        f7f7 f7f9 fa fb fc ff37 ffc3 ffc8 ffd0 ffe0
      `,
    },
  ],
  [
    {
      context: FLAT_32,
      code: `
        0f291c24 660f62d8 660f6ee6 660f6f3c24 660f6fdc 660f73d407 660f73f30d 660f76c0 660f7ef0 660fd4f8
        660fd61424 660fefc0 f30f7e1424
      `,
    },
    {
      context: FLAT_32 | Context.FLAT_FS,
      code: `
        00d9 0207 0845e7 0a45c8 0c01 0d00000080 0f011d70e0bbcd 0f01ca 0f01cb 0f0d0b 0f23c0 0f30 0f32 0f4245ec
        0f42ca 0f4345e4 0f43c2 0f444594 0f44c2 0f454508 0f45c2 0f464dec 0f46f0 0f47f0 0f48c3 0f49d7 0f4cc2
        0f4d450c 0f4dfa 0f4ec2 0f4fcf 0f90c1 0f9245eb 0f9345cf 0f93c2 0f9403 0f94c0 0f954353 0f96c2 0f9fc0
        0fa3c1 0fab08 0fadd0 0faee8 0faef0 0faf17 0fb308 0fb3d0 0fba300c 0fbae01a 0fbccf 0fbd45f0 0fbdc2 0fbe11
        0fbed2 0fbf00 0fbffb 0fc101 0fc70e 0fc7f8 0fce 16 1955f0 1f 20c3 2206 2903 2a45a0 30c0 3e0fb119 640fb00b
        66015810 660311 660905acbfd6cd 660b4808 660dbf07 662103 6625f400 662b459c 662d865b 6631c9 663906 6639c6
        663b7dea 6681c92481 6683431801 66834b2c02 66836302f7 6683e120 66a949fe 66c1c008 66ed 66f7070004 6b130c
        6bf658 700c 710a 7c16 802b01 80305c 80430501 80cd01 80f4c0 830802 832801 83daff 857df0 8710 8cd0 8f45e8
        99 a4 aa ac ae c9 cf d16de0 d1c2 d36dec d3f8 e461 e661 ec ed ee ef f0010413 f00fab30 f00fb113 f00fb35624
        f00fc110 f00fc709 f0800801 f080252072edcd7f f0834424fc00 f0ff06 f2ae f390 f3a6 f3aa f700000c0000 f723
        f77df0 f7e9 f7f1 f7fb fb ff5304
      `,
    },
    {
      context: FLAT_32 | Context.FLAT_FS | Context.FLAT_GS,
      code: `
        0130 01c3 0332 055fa90100 08cb 0910 09e9 0b10 0f0110 0f20c0 0f22c0 0f31 0f92c0 0f95c0 0f97c0 0fa2 0fa307
        0fa4c218 0fa5c2 0facd018 0fafeb 0fb608 0fb6c0 0fb702 0fb7e9 0fba290c 0fc7f2 115d60 11d3 13790c 19c0
        1b55e0 2103 21c3 2303 2403 25000000ff 29f9 2b03 2d00000040 31c0 3216 3308 35ffffff00 3808 38c8 3903 39d3
        3a0b 3b10 3ce0 47 48 56 5a 66833e00 6683f83f 6685db 668902 668b02 6690 66c7000004 66d1e8 6a00 72e7 7305
        742d 75bf 767c 7744 7834 7929 7d3c 7e0c 7f18 803900 804e0420 8065c37f 80e40f 830201 8322fe 833b04
        83555000 83c410 83c801 83d200 83e3f0 83ec70 83f004 83f802 84c9 85d2 87df 8806 88c3 891e 89dd 8a0a 8b00
        8d7600 8ed8 90 9c 9d a80c a900002000 b201 b818000000 c1c907 c1e202 c3 c60000 c70700000000 d0e9 d1e9 d1f8
        d3e0 d3eb dbe3 e800000000 eb33 f3a4 f3a5 f3ab f60001 f775d8 f7d0 f7da f7e2 fa fc ff03 ff0b ff36 ffd0
        ffe0
      `,
    },
  ],
];

/** Gives all of them their handlers' places. */
export function reserveUsual(handlers: Handlers, decoder: Decoder): void {
  const instruction = new Instruction();
  for (const set of USUAL) {
    for (const { context, code } of set) {
      const mode = codeSizeOf(context) as 16 | 32 | 64;
      for (const text of code.trim().split(/\s+/)) {
        const bytes = Uint8Array.from(Buffer.from(text, 'hex'));
        const status = decoder.decode(bytes, 0, bytes.length, mode, instruction);
        if (status !== DecodeStatus.OK) throw new Error(`${text} is no instruction of ${mode}-bit code`);
        handlers.slotFor(instruction, context);
      }
    }
    handlers.makeSet();
  }
}
