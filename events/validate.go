package events

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
	"golang.org/x/text/language"
	"golang.org/x/text/message"
)

// Validate checks that e has a known type and JSON data that its schema allows.
// The first violation is returned as an *Error with CodeInvalidRequest: Field is
// the JSON pointer, or "data" for all of it, Message says what was found, Expected what may be there.
func Validate(e Event) error {
	_, _, err := validate(e)
	return err
}

// Payload validates e and returns its data. T is the payload struct of e's type.
func Payload[T any](e Event) (T, error) {
	var data T
	value, rewritten, err := validate(e)
	if err != nil {
		return data, err
	}
	if want := typeOf(data); want != "" && want != e.Type() {
		return data, Errorf(CodeInternal, "a %s event was read as the data of %s", e.Type(), want)
	}
	text := e.DataEncoded
	if rewritten {
		if text, err = json.Marshal(value); err != nil {
			return data, Errorf(CodeInternal, "the data cannot be written as JSON again: %w", err)
		}
	}
	if err := json.Unmarshal(text, &data); err != nil {
		bad := Errorf(CodeInvalidRequest, "the data of the %s event cannot be read: %w", e.Type(), err)
		bad.Field, bad.Expected = "data", "data as "+SchemaFile(e.Type())+" says"
		return data, bad
	}
	return data, nil
}

// typeOf returns the event type a payload struct belongs to, or "".
func typeOf(data any) string {
	switch data.(type) {
	case ImageGenerate:
		return TypeImageGenerate
	case Cancel:
		return TypeCancel
	case Accepted:
		return TypeAccepted
	case Started:
		return TypeStarted
	case Progress:
		return TypeProgress
	case Succeeded:
		return TypeSucceeded
	case Failed:
		return TypeFailed
	case Cancelled:
		return TypeCancelled
	case Expired:
		return TypeExpired
	case ConditionChanged:
		return TypeConditionChanged
	case Heartbeat:
		return TypeHeartbeat
	case Canary:
		return TypeCanary
	case Decision:
		return TypeDecision
	case Command:
		return TypeCommand
	}
	return ""
}

func validate(e Event) (value any, rewritten bool, err error) {
	if value, rewritten, err = check(e); err != nil {
		return nil, false, bounded(err, "data")
	}
	return value, rewritten, nil
}

func check(e Event) (value any, rewritten bool, err error) {
	if e.Context == nil {
		return nil, false, attributeError("type", "an empty event", "one of "+strings.Join(Types(), ", "))
	}
	schemas, err := loadSchemas()
	if err != nil {
		return nil, false, Errorf(CodeInternal, "the embedded schemas cannot be compiled: %w", err)
	}
	schema, ok := schemas.byType[e.Type()]
	if !ok {
		return nil, false, unknownType(e.Type())
	}
	if media := e.DataMediaType(); !jsonMedia(media) {
		return nil, false, attributeError("datacontenttype", quoteShort(e.DataContentType()), "application/json")
	}
	if len(e.DataEncoded) > MaxEventBytes {
		return nil, false, tooLarge(len(e.DataEncoded))
	}
	value, rewritten, err = parseJSON(e.DataEncoded)
	if err != nil {
		return nil, false, err
	}
	if err := schema.Validate(value); err != nil {
		var v *jsonschema.ValidationError
		if !errors.As(err, &v) {
			return nil, false, Errorf(CodeInternal, "the data cannot be validated: %w", err)
		}
		return nil, false, schemas.refuse(v, value)
	}
	return value, rewritten, nil
}

func unknownType(typ string) *Error {
	e := attributeError("type", "the event type "+quoteShort(typ), "one of "+strings.Join(Types(), ", "))
	name, version, ok := cutVersion(typ)
	for _, t := range Types() {
		if known, v, _ := cutVersion(t); ok && known == name {
			e.Message = fmt.Sprintf("found version %s of %s", version, name)
			e.Expected = "version " + v + ": " + t
		}
	}
	return e
}

// cutVersion splits "dev.genfn.image.generate.v1" into name and "v1".
func cutVersion(typ string) (name, version string, ok bool) {
	i := strings.LastIndex(typ, ".v")
	if i < 0 {
		return typ, "", false
	}
	return typ[:i], typ[i+1:], true
}

// refuse turns the first violation, in the order of the pointers, into an Error.
// Further ones go into its Detail.
func (s *schemaSet) refuse(v *jsonschema.ValidationError, value any) *Error {
	leaves := violations(v, nil)
	slices.SortStableFunc(leaves, func(a, b *jsonschema.ValidationError) int {
		return slices.Compare(a.InstanceLocation, b.InstanceLocation)
	})
	e := s.explain(leaves[0], value)
	if len(leaves) > 1 {
		var more []string
		for _, l := range leaves[1:] {
			more = append(more, s.explain(l, value).Error())
		}
		e.Detail = "also: " + strings.Join(more, "; ")
	}
	return e
}

func violations(v *jsonschema.ValidationError, leaves []*jsonschema.ValidationError) []*jsonschema.ValidationError {
	if len(v.Causes) == 0 {
		return append(leaves, v)
	}
	for _, c := range v.Causes {
		leaves = violations(c, leaves)
	}
	return leaves
}

func (s *schemaSet) explain(v *jsonschema.ValidationError, value any) *Error {
	pointer := jsonPointer(v.InstanceLocation)
	node := s.node(v.SchemaURL)
	found := at(value, v.InstanceLocation)
	switch k := v.ErrorKind.(type) {
	case *kind.Required:
		e := Errorf(CodeInvalidRequest, "the field is missing")
		e.Field, e.Expected = pointer+jsonPointer(k.Missing[:1]), expectation(s.node(v.SchemaURL+"/properties/"+k.Missing[0]))
		return e
	case *kind.AdditionalProperties:
		return unknownField(pointer, k.Properties, node)
	case *kind.Pattern:
		return attributeError(pointer, describe(found), firstSentence(node))
	case *kind.MinLength, *kind.MaxLength:
		text, _ := found.(string)
		return attributeError(pointer, fmt.Sprintf("text of %d characters", utf8.RuneCountInString(text)), expectation(node))
	case *kind.Type, *kind.Enum, *kind.Minimum, *kind.Maximum, *kind.Format, *kind.ContentEncoding:
		return attributeError(pointer, describe(found), expectation(node))
	}
	e := attributeError(pointer, describe(found), expectation(node))
	e.Detail = v.ErrorKind.LocalizedString(message.NewPrinter(language.English))
	return e
}

func unknownField(pointer string, names []string, node map[string]any) *Error {
	slices.Sort(names)
	properties, _ := node["properties"].(map[string]any)
	known := make([]string, 0, len(properties))
	for name := range properties {
		known = append(known, name)
	}
	slices.Sort(known)
	e := Errorf(CodeInvalidRequest, "the field %s is not known", quoteShort(names[0]))
	if near := nearest(names[0], known); near != "" {
		e.Message += fmt.Sprintf("; did you mean %q?", near)
	}
	e.Field, e.Expected = pointer+jsonPointer(names[:1]), "only the fields "+strings.Join(known, ", ")
	return e
}
