package api

// AccountsPath is where servers with a URL resolver fetch accounts, at the path with the public key after it. It is read by GET,
// without a token.
const AccountsPath = "/jwt/v1/accounts/"

// AccountPreloadRequest asks for the accounts that the files of servers with a memory resolver are to preload.
type AccountPreloadRequest struct {
	Cursor string `json:"cursor,omitempty"`
}

// AccountPreload is a page of them.
type AccountPreload struct {
	Accounts []PreloadedAccount `json:"accounts"`
	Cursor   string             `json:"cursor,omitempty"` // of the next page; empty at the end
}

// PreloadedAccount is an account as servers are to have it.
type PreloadedAccount struct {
	Account string `json:"account"` // id
	JWT     string `json:"jwt"`
}
