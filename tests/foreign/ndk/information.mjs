// What the relay tells about itself (NIP-11).

import { Party } from './party.mjs'

export async function information(url, scene) {
  const { relay } = await Party.connected(url)
  const document = await relay.fetchInfo()
  scene.observe('name', document.name)
  scene.observe('supported', document.supported_nips)
  scene.observe('max_limit', document.limitation.max_limit)
}
