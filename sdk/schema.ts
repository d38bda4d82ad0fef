/**
 * What phones and the server say to each other, from the server's own schemas by `npm run api`. Not to be changed by hand.
 */

export type GetMessagesBody = {
  readonly vendorId: string;
  readonly confirm?: readonly string[];
  readonly limit?: number;
  readonly v?: number;
  readonly settingsVersion?: number;
};

export type RegisterBody = {
  readonly siteId: string;
  readonly destination: string;
  readonly registrationCode: string;
  readonly deviceType: "ANDROID" | "IOS" | "WEB" | "SIMULATOR";
  readonly deviceOS: string;
  readonly clientVersion: string;
  readonly notificationAddress: string;
  readonly gatewayType: "GCM" | "APNS" | "WEBPUSH";
  readonly confirms?: boolean;
};

export type ReplyBody = {
  readonly vendorId: string;
  readonly uniqueId: string;
  readonly clientId: string;
  readonly text?: string;
  readonly choice?: string;
  readonly at?: string | number;
};

export type SetStatusBody = {
  readonly vendorId: string;
  readonly statuses: readonly {
    readonly uniqueId: string;
    readonly status: "DELIVERED" | "READ" | "ACKNOWLEDGED" | "IGNORED";
    readonly at?: string | number;
    readonly clientId?: string;
  }[];
};

export type SettingsBody = {
  readonly vendorId: string;
  readonly have?: number;
  readonly userSettings?: Record<never, never>;
  readonly clientVersion?: string;
};

export type UpdateBody = {
  readonly vendorId: string;
  readonly notificationAddress: string;
  readonly gatewayType: "GCM" | "APNS" | "WEBPUSH";
};

export type VendorBody = {
  readonly vendorId: string;
};

export type Settings = {
  readonly ClientMessagingUrls: readonly string[];
  readonly CoreVersion: string;
  /** Another where anything of this is another; compared for being the same */
  readonly Version: number;
  readonly Group: {
    readonly Name: string;
  };
  /** What holds, be it the group's or the user's */
  readonly Tones: {
    readonly High: {
      readonly Tone: string;
      /** Percent; null: as the phone itself is set */
      readonly Volume: number | null;
      readonly IntervalSeconds: number;
      readonly Repeats: number;
    };
    readonly Medium: {
      readonly Tone: string;
      /** Percent; null: as the phone itself is set */
      readonly Volume: number | null;
      readonly IntervalSeconds: number;
      readonly Repeats: number;
    };
    readonly Low: {
      readonly Tone: string;
      /** Percent; null: as the phone itself is set */
      readonly Volume: number | null;
      readonly IntervalSeconds: number;
      readonly Repeats: number;
    };
  };
  /** What the user cannot change, as in high.tone */
  readonly Locked: readonly string[];
  readonly RetentionDays: number;
  readonly MinimumVersion: string | null;
  /** The phone's program is older; it gets its pages all the same */
  readonly UpdateRequired: boolean;
};

export type AmcMessage = {
  readonly UniqueId: string;
  /** When the host sent it, ISO 8601, UTC */
  readonly Date: string;
  readonly Text: string;
  /** 0 unread, 1 read, 2 answered */
  readonly Status: 0 | 1 | 2;
  readonly SiteId: string;
  readonly ConversationId: string;
  readonly CallbackNumber: string;
  /** 1 high, 2 medium, 3 low */
  readonly Priority: number;
  readonly MessageType: string;
  readonly Assets: readonly unknown[];
  readonly From: {
    readonly Id: string;
    readonly Name: string;
    readonly ContactId: string;
  };
  readonly ResponseChoices?: readonly string[];
  /** ISO 8601, UTC */
  readonly ReceivedAt?: string;
  /** The host was told that it failed before it was fetched */
  readonly Late?: boolean;
  /** ISO 8601, UTC */
  readonly ExpiresAt?: string;
};

export type DoneAnswer = {
  /** The operation */
  readonly ResponseType: string;
  readonly ResponseCode: 0;
  readonly ResponseDescription: "Success";
};

export type GetMessagesAnswer = {
  /** The operation */
  readonly ResponseType: string;
  readonly ResponseCode: 0;
  readonly ResponseDescription: "Success";
  readonly Messages: readonly AmcMessage[];
  readonly More: boolean;
  readonly Notices?: readonly Notice[];
  readonly SettingsVersion?: number;
};

export type GetSettingsAnswer = {
  /** The operation */
  readonly ResponseType: string;
  readonly ResponseCode: 0;
  readonly ResponseDescription: "Success";
  readonly Settings: Settings;
};

export type Notice = {
  readonly NoticeId: string;
  readonly UniqueId: string;
  readonly Kind: "RECALLED" | "EXPIRED" | "ANSWERED";
  readonly Answer?: "ACKNOWLEDGED" | "IGNORED";
  /** Of ANSWERED: on another phone of the same person; else by somebody else who has the page */
  readonly ByThisPerson?: boolean;
  /** ISO 8601, UTC */
  readonly At: string;
};

export type Refusal = {
  /** The operation */
  readonly ResponseType: string;
  /** What it is refused for; the same for ever */
  readonly ResponseCode: number;
  readonly ResponseDescription: string;
};

export type RegisterAnswer = {
  /** The operation */
  readonly ResponseType: string;
  readonly ResponseCode: 0;
  readonly ResponseDescription: "Success";
  readonly VendorId: string;
  readonly DeviceToken: string;
  readonly Settings: Settings;
};

export type ReplyAnswer = {
  /** The operation */
  readonly ResponseType: string;
  readonly ResponseCode: 0;
  readonly ResponseDescription: "Success";
  readonly UniqueId: string;
  readonly ClientId: string;
  readonly Result: "recorded" | "repeated";
};

export type SetStatusAnswer = {
  /** The operation */
  readonly ResponseType: string;
  readonly ResponseCode: 0;
  readonly ResponseDescription: "Success";
  readonly Results: readonly {
    readonly UniqueId: string;
    readonly Result: "recorded" | "repeated" | "unknown";
    /** The one that stands, and whether this device gave it */
    readonly Answer?: StandingAnswer;
  }[];
};

export type StandingAnswer = {
  readonly Status: "ACKNOWLEDGED" | "IGNORED";
  readonly ByThisDevice: boolean;
};

export type ClientFrames = {
  readonly resume: {
    readonly epoch: string | null;
    readonly seq: number;
  };
  readonly confirm: {
    readonly uniqueId?: string;
    readonly noticeId?: string;
    readonly version?: number;
  };
  readonly status: {
    readonly uniqueId: string;
    readonly status: "DELIVERED" | "READ" | "ACKNOWLEDGED" | "IGNORED";
    readonly at?: string | number;
    readonly clientId?: string;
  };
  readonly reply: {
    readonly uniqueId: string;
    readonly clientId: string;
    readonly text?: string;
    readonly choice?: string;
    readonly at?: string | number;
  };
  readonly ping: Record<never, never>;
  readonly pong: Record<never, never>;
};

export type ServerFrames = {
  readonly hello: {
    readonly epoch: string;
    readonly resumeToken: string;
    readonly heartbeatSeconds: number;
  };
  readonly resumed: {
    readonly epoch: string;
    readonly recovered: boolean;
  };
  readonly recalled: {
    readonly NoticeId: string;
    readonly UniqueId: string;
    readonly Kind: "RECALLED" | "EXPIRED";
    readonly At: string;
  };
  readonly answered: {
    readonly NoticeId: string;
    readonly UniqueId: string;
    readonly Answer?: "ACKNOWLEDGED" | "IGNORED";
    readonly ByThisPerson: boolean;
    readonly At: string;
  };
  readonly result: {
    readonly to: string;
    readonly UniqueId?: string;
    readonly ClientId?: string;
    readonly Result: "recorded" | "repeated" | "unknown" | "refused" | "unavailable";
    /** The one that stands, and whether this device gave it */
    readonly Answer?: StandingAnswer;
  };
  readonly settings: Settings;
  readonly reconnect: {
    readonly afterMs: number;
    readonly urls: readonly string[];
  };
  readonly ping: Record<never, never>;
  readonly pong: Record<never, never>;
  readonly message: AmcMessage;
};
