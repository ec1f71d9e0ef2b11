// What the relay tells about itself (NIP-11).

import { fetchRelayInformation } from 'nostr-tools/nip11'

export async function information(url, scene) {
  const document = await fetchRelayInformation(url)
  scene.observe('name', document.name)
  scene.observe('supported', document.supported_nips)
  scene.observe('max_limit', document.limitation.max_limit)
}
