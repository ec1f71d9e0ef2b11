// NDK plays scenarios against a relay; see scene.mjs.

import './environment.mjs'
import { play } from './scene.mjs'
import { names } from './ndk/names.mjs'
import { notes } from './ndk/notes.mjs'
import { reconciliation } from './ndk/reconciliation.mjs'
import { deletion, expiration, protection, vanishing } from './ndk/removal.mjs'
import { search } from './ndk/search.mjs'
import { authentication, messages, privacy } from './ndk/privacy.mjs'
import { counting } from './ndk/counting.mjs'
import { groups } from './ndk/groups.mjs'
import { membership } from './ndk/membership.mjs'
import { information } from './ndk/information.mjs'

await play({
  notes, deletion, expiration, protection, vanishing, authentication, messages, privacy, counting,
  groups, information, membership, names, reconciliation, search,
})
