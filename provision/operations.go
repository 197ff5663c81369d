package provision

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"regexp"
	"runtime/debug"
	"strings"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/policy"
)

// operations lists every operation with who may call it. The transports serve nothing else.
func (s *Service) operations() []operation {
	return []operation{
		of(api.OpWhoami, anybody, s.Whoami),
		of(api.OpUserSignup, anybody, s.UserSignup),
		of(api.OpAccountSignup, anybody, s.AccountSignup),
		of(api.OpAccountGet, anybody, s.AccountGet),
		of(api.OpAccountList, anybody, s.AccountList),
		of(api.OpAccountUpdate, anybody, s.AccountUpdate),
		of(api.OpAccountRename, anybody, s.AccountRename),
		of(api.OpAccountApprove, admins(policy.RightAccounts), s.AccountApprove),
		of(api.OpAccountReject, admins(policy.RightAccounts), s.AccountReject),
		of(api.OpAccountSuspend, admins(policy.RightAccounts), s.AccountSuspend),
		of(api.OpAccountResume, admins(policy.RightAccounts), s.AccountResume),
		of(api.OpAccountDelete, anybody, s.AccountDelete),
		of(api.OpAccountUndelete, anybody, s.AccountUndelete),
		of(api.OpAccountRotate, anybody, s.AccountRotate),
		of(api.OpKeysList, admins(policy.RightAccounts), s.KeysList),
		of(api.OpKeysReseal, admins(policy.RightAccounts), s.KeysReseal),
		of(api.OpOperatorKey, admins(policy.RightAccounts), s.OperatorKey),
		of(api.OpOperatorKeyImport, onHost, s.OperatorKeyImport),
		of(api.OpOperatorKeyRemove, onHost, s.OperatorKeyRemove),
		of(api.OpAccountExchange, anybody, s.AccountExchange),
		of(api.OpAccountExchangeSet, anybody, s.ExchangeSet),
		of(api.OpAccountExportAdd, anybody, s.ExportAdd),
		of(api.OpAccountExportRemove, anybody, s.ExportRemove),
		of(api.OpAccountImportAdd, anybody, s.ImportAdd),
		of(api.OpAccountImportRemove, anybody, s.ImportRemove),
		of(api.OpAccountActivate, anybody, s.AccountActivate),
		of(api.OpAccountGraph, anybody, s.AccountGraph),
		of(api.OpAccountAdopt, onHost, s.AccountAdopt),
		of(api.OpAccountHandover, onHost, s.AccountHandover),
		of(api.OpAccountPreload, onHost, s.AccountPreload),
		of(api.OpMemberAdd, anybody, s.MemberAdd),
		of(api.OpMemberInvite, anybody, s.MemberInvite),
		of(api.OpMemberAccept, anybody, s.MemberAccept),
		of(api.OpMemberRemove, anybody, s.MemberRemove),
		of(api.OpMemberList, anybody, s.MemberList),
		of(api.OpExplain, admins(policy.RightExplain), s.ExplainLive),
		of(api.OpRevoke, admins(policy.RightRevoke), s.Revoke),
		of(api.OpRevokeLift, admins(policy.RightRevoke), s.Lift),
		of(api.OpProgress, follow(policy.RightRevoke), s.Progress),
		of(api.OpRevocations, admins(policy.RightRevoke), s.Revocations),
		of(api.OpIdentities, admins(policy.RightRevoke), s.Identities),
		of(api.OpSessions, follow(policy.RightSessions), s.Sessions),
		of(api.OpKick, admins(policy.RightRevoke), s.Kick),
		of(api.OpAudit, follow(policy.RightAudit), s.Audit),
		of(api.OpAdminToken, onHost, s.MakeAdminToken),
		of(api.OpReload, onHost, s.ReloadConfig),
		of(api.OpStatus, onHost, s.ShowStatus),
	}
}

// access says who may call an operation. Whoever is on the host may call each.
type access struct {
	everybody bool         // whoever has a token, which the operation itself looks at
	right     policy.Right // admins with this one; with neither, nobody but who is on the host
	polled    bool         // callers ask it again and again, to follow what happens
}

var (
	anybody = access{everybody: true} // those of accounts find out by themselves who is an owner or an admin, see [Service.party]
	onHost  = access{}
)

func admins(right policy.Right) access { return access{right: right} }
func follow(right policy.Right) access { return access{right: right, polled: true} }

// operation is a method of [Service] as transports see it.
type operation struct {
	name              string
	access            access
	request, response reflect.Type
	do                func(ctx context.Context, c Caller, body []byte) (any, error)
}

func of[Req, Resp any](name string, a access, do func(context.Context, Caller, Req) (Resp, error)) operation {
	return operation{name: name, access: a, request: reflect.TypeFor[Req](), response: reflect.TypeFor[Resp](), do: func(ctx context.Context, c Caller, body []byte) (any, error) {
		var req Req
		if err := decode(body, &req); err != nil {
			return nil, err
		}
		return do(ctx, c, req)
	}}
}

// call carries an operation out for whom the transport says is calling, with the JSON that was sent.
func (s *Service) call(ctx context.Context, op operation, c Caller, body []byte) (resp any, err error) {
	ctx, cancel := context.WithTimeout(ctx, handlerTimeout)
	defer cancel()
	defer clear(body) // there may be a seed in it
	defer func() {
		if p := recover(); p != nil {
			s.Logger.Error("an operation made the service panic", "op", op.name, "request_id", c.RequestID, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			resp, err = nil, errors.New("panic")
		}
	}()
	if err := op.representable(c); err != nil {
		return nil, err
	}
	c, err = s.authorize(ctx, op, c)
	if err != nil {
		return nil, err
	}
	return op.do(ctx, c, body)
}

// answerable returns the error as one for callers, with the request's id: a constant one unless it was made for them.
func answerable(err error, requestID string) api.Error {
	e, ok := errors.AsType[*api.Error](err)
	if !ok {
		e = refuse(http.StatusInternalServerError, string(policy.Internal), "the service failed; its log tells more under this request id")
	}
	out := *e
	out.RequestID = requestID
	return out
}

// decode reads a body, which may be empty, strictly into req.
func decode(body []byte, req any) error {
	if len(bytes.TrimSpace(body)) == 0 {
		return nil
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	dec.DisallowUnknownFields()
	if err := dec.Decode(req); err != nil {
		return misfit(err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return badRequest("the body holds more than one JSON value")
	}
	return nil
}

// unknownField is what the decoder says of an unknown field whose name looks like one; no token and no other secret does.
var unknownField = regexp.MustCompile(`^json: unknown field "([a-z_]{1,32})"$`)

// misfit says what is wrong with a body, as far as no value of it is repeated: it may hold a token.
func misfit(err error) error {
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok && wrong.Field != "" {
		kind, _, _ := strings.Cut(wrong.Value, " ")
		return badRequest("field %s of the body is of another type, and not a JSON %s: /openapi.json describes what this operation takes", wrong.Field, kind)
	}
	if name := unknownField.FindStringSubmatch(err.Error()); name != nil {
		return badRequest("the body has a field %s, which this operation does not take: /openapi.json describes what it takes", name[1])
	}
	return badRequest("the body is not the JSON that this operation takes; unknown fields are not accepted")
}

// encode returns an answer as JSON.
func encode(v any) ([]byte, error) {
	var body bytes.Buffer
	enc := json.NewEncoder(&body)
	enc.SetEscapeHTML(false) // subjects are full of >, and no answer is HTML
	err := enc.Encode(v)
	return body.Bytes(), err
}
