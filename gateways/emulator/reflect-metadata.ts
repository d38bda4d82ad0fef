/**
 * The three calls of the Reflect metadata proposal that the dependency injection inside @peculiar/x509 makes; it refuses
 * to load without them. Import before it. A full polyfill already present is left alone.
 */
const kept = new WeakMap<object, Map<unknown, unknown>>();

function define(key: unknown, value: unknown, target: object): void {
  const own = kept.get(target) ?? new Map<unknown, unknown>();
  kept.set(target, own.set(key, value));
}

function getOwn(key: unknown, target: object): unknown {
  return kept.get(target)?.get(key);
}

function get(key: unknown, target: object): unknown {
  for (let at: object | null = target; at !== null; at = Object.getPrototypeOf(at)) {
    if (kept.get(at)?.has(key)) return getOwn(key, at);
  }
  return undefined;
}

if (!("getMetadata" in Reflect)) {
  Object.assign(Reflect, { defineMetadata: define, getOwnMetadata: getOwn, getMetadata: get });
}
