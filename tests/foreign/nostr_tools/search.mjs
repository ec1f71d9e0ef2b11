// Search (NIP-50).

import { seconds } from '../scene.mjs'
import { Party } from './party.mjs'

const TEXTS = {
  both: [1, 'Orange juice, freshly pressed'],
  orange: [1, 'An ORANGE is a fruit'],
  juice: [1, 'I like the juice of apples'],
  article: [30023, 'On orange juice, at length'],
  neither: [1, 'nothing of the kind'],
}

export async function search(url, scene) {
  const [author, reader] = [await Party.connected(url), await Party.connected(url)]
  let age = 0
  for (const [name, [kind, text]] of Object.entries(TEXTS)) {
    const tags = kind === 30023 ? [['d', name]] : []
    await author.publish(scene.called(name, author.sign(kind, text, tags, seconds() - 600 + age++)))
  }
  const authors = [author.pubkey]
  const ask = async filter => scene.answer(await reader.ask({ authors, ...filter }))
  scene.observe('one word', (await ask({ search: 'orange' })).sort())
  scene.observe('two words', (await ask({ search: 'juice orange' })).sort())
  scene.observe('of a kind', (await ask({ search: 'orange', kinds: [30023] })))
  scene.observe('with an extension', (await ask({ search: 'orange flavour:sour' })).sort())
  scene.observe('limited', (await ask({ search: 'orange', limit: 1 })).length)
  scene.observe('nothing', await ask({ search: 'pineapple' }))
  scene.observe('counted', (await reader.count({ authors, search: 'orange' })).count)
}
