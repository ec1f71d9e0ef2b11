// Makes HyperLogLog registers with nostr-tools: reads a JSON array of {filter, pubkeys}, prints
// an array of {offset, hll}.

import { createRequire } from 'node:module'
import { readFileSync } from 'node:fs'

const foreign = createRequire(new URL('../foreign/package.json', import.meta.url))
const nip45 = foreign('nostr-tools/nip45')

const cases = JSON.parse(readFileSync(0, 'utf8'))
const answers = cases.map(({ filter, pubkeys }) => {
  const offset = nip45.computeOffset(nip45.getFilterFirstTagValue(filter))
  const registers = nip45.newHll()
  for (const pubkey of pubkeys) nip45.feedPubkey(registers, pubkey, offset)
  return { offset, hll: nip45.hllEncode(registers) }
})
process.stdout.write(JSON.stringify(answers))
