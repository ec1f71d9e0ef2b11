// Internet identifiers (NIP-05). The client insists on https, which is here for somebody else to do.

import { queryProfile, searchDomain, useFetchImplementation } from 'nostr-tools/nip05'

export async function names(url, scene) {
  const host = new URL(url).host
  useFetchImplementation((address, options) =>
    fetch(String(address).replace(/^https:\/\/[^/]*/, `http://${host}`), options))
  scene.observe('alice', await queryProfile('alice@127.0.0.1'))
  scene.observe('nobody', await queryProfile('nobody@127.0.0.1'))
  scene.observe('the domain', await queryProfile('127.0.0.1'))
  scene.observe('asked for alice', await searchDomain('127.0.0.1', 'alice'))
}
