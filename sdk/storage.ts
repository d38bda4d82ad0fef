/**
 * Where a phone keeps what must survive its restart: registration, pages, and what it has yet to report. All of it is the user's own; the
 * registration holds the device's token, the pages their text. Whatever has these four calls will do.
 */

export type ClientStorage = {
  get(key: string): Promise<string | null>;
  set(key: string, value: string): Promise<void>;
  /** Nothing happens where there is no such key. */
  delete(key: string): Promise<void>;
  /** Every key that begins so, in any order. */
  list(prefix: string): Promise<readonly string[]>;
};

/** Forgets with the process. */
export function memoryStorage(): ClientStorage {
  const kept = new Map<string, string>();
  return {
    get: async (key) => kept.get(key) ?? null,
    async set(key, value) {
      kept.set(key, value);
    },
    async delete(key) {
      kept.delete(key);
    },
    list: async (prefix) => [...kept.keys()].filter((key) => key.startsWith(prefix)),
  };
}

/** A browser's localStorage, or what has its form. */
export type WebStorage = {
  readonly length: number;
  key(index: number): string | null;
  getItem(key: string): string | null;
  setItem(key: string, value: string): void;
  removeItem(key: string): void;
};

/** @param name tells this client's keys from others of the same origin. */
export function webStorage(storage: WebStorage, name = "tocsin"): ClientStorage {
  const own = (key: string) => `${name}/${key}`;
  return {
    get: async (key) => storage.getItem(own(key)),
    async set(key, value) {
      storage.setItem(own(key), value);
    },
    async delete(key) {
      storage.removeItem(own(key));
    },
    async list(prefix) {
      const keys = Array.from({ length: storage.length }, (_, index) => storage.key(index) ?? "");
      return keys.filter((key) => key.startsWith(own(prefix))).map((key) => key.slice(own("").length));
    },
  };
}
