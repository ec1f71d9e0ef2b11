// Internet identifiers (NIP-05). The client insists on https, which is here for somebody else to do.

import { NDKUser } from '@nostr-dev-kit/ndk'
import { Party } from './party.mjs'

export async function names(url, scene) {
  const { ndk } = new Party(url)
  const host = new URL(url).host
  ndk.httpFetch = (address, options) =>
    fetch(String(address).replace(/^https:\/\/[^/]*/, `http://${host}`), options)
  const profile = async name => {
    const user = await NDKUser.fromNip05(name, ndk)
    return user ? { pubkey: user.pubkey, relays: user.relayUrls } : null
  }
  scene.observe('alice', await profile('alice@127.0.0.1'))
  scene.observe('nobody', (await profile('nobody@127.0.0.1')))
  scene.observe('the domain', await profile('127.0.0.1'))
}
