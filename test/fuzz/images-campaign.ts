import { imageCampaign } from '../unit/machine/images.ts';

// `npm run campaign:images`: hostile kernels and programs against the loaders. SEED=n COUNT=n repeat a run.
const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 31));
const count = Number(process.env.COUNT ?? 200_000);
console.log(`images: seed ${seed}, ${count} files`);
const { booted, refused } = imageCampaign(seed, count);
console.log(`images: ${booted} booted, ${refused} refused with a message, none did anything else`);
