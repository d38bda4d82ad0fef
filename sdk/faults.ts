/** What can go wrong between a phone and its server, told apart by what is to be done about it. */

/** No answer of a Tocsin server was to be had; try again. `code`: ETIMEDOUT, EMSGSIZE, EBADANSWER, or the connection's own. */
export class Unreachable extends Error {
  readonly code: string;
  constructor(operation: string, code: string) {
    super(`${operation}: no answer (${code})`);
    this.name = "Unreachable";
    this.code = code;
  }
}

/** Codes of the server's catalogue: there is no such operation; it does not offer it. */
const NO_SUCH_OPERATION = [9, 11];

/** The server answered, and not with success. */
export class ServerRefused extends Error {
  readonly operation: string;
  readonly httpStatus: number;
  /** Of the server's catalogue; null where the answer was none of a Tocsin server. */
  readonly responseCode: number | null;
  /** How long the server asks to wait. */
  readonly retryAfterMs: number | null;
  constructor(
    operation: string,
    answer: {
      readonly httpStatus: number;
      readonly responseCode: number | null;
      readonly description: string | null;
      readonly retryAfterMs: number | null;
    },
  ) {
    const description = answer.description === null ? "" : `: ${answer.description}`;
    super(`${operation} was refused (HTTP ${answer.httpStatus}${description})`);
    this.name = "ServerRefused";
    this.operation = operation;
    this.httpStatus = answer.httpStatus;
    this.responseCode = answer.responseCode;
    this.retryAfterMs = answer.retryAfterMs;
  }

  /** The server knows this registration no more. A hot spot's sign-in page that says 401 is not the server. */
  get unregistered(): boolean {
    return this.httpStatus === 401 && this.responseCode !== null;
  }

  /** The same again would be refused again. Not where this server is of a version before the operation: another, or itself soon, is not. */
  get final(): boolean {
    const { httpStatus, responseCode } = this;
    if (responseCode === null || NO_SUCH_OPERATION.includes(responseCode)) return false;
    return httpStatus >= 400 && httpStatus < 500 && ![401, 408, 429].includes(httpStatus);
  }

  /** This one operation cannot be had now. */
  get unavailable(): boolean {
    return this.httpStatus === 503 || NO_SUCH_OPERATION.includes(this.responseCode ?? -1);
  }
}

/** More waits to be reported than a phone can hold. */
export class OutboxFull extends Error {
  constructor() {
    super("Too much waits to be reported");
    this.name = "OutboxFull";
  }
}

/** The device is not registered, or not any more. */
export class NotRegistered extends Error {
  constructor() {
    super("This device is not registered");
    this.name = "NotRegistered";
  }
}
