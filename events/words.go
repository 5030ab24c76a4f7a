package events

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// expectation says in words what a schema object allows.
func expectation(node map[string]any) string {
	if values, ok := node["enum"].([]any); ok {
		var words []string
		for _, v := range values {
			words = append(words, fmt.Sprint(v))
		}
		return "one of " + strings.Join(words, ", ")
	}
	switch node["type"] {
	case "integer":
		return "an integer" + span(node, "minimum", "maximum")
	case "number":
		return "a number" + span(node, "minimum", "maximum")
	case "boolean":
		return "true or false"
	case "object":
		return "an object"
	case "array":
		return "an array"
	case "string":
		return stringExpectation(node)
	}
	return "what the schema allows"
}

func stringExpectation(node map[string]any) string {
	switch {
	case node["format"] == "date-time":
		return "a time as in RFC 3339, such as 2026-01-31T12:00:00Z"
	case node["contentEncoding"] == "base64":
		return "text in base64"
	case node["maxLength"] != nil && node["minLength"] == nil:
		return fmt.Sprintf("text of at most %v characters", node["maxLength"])
	case node["maxLength"] != nil:
		return fmt.Sprintf("text of %v to %v characters", node["minLength"], node["maxLength"])
	case node["minLength"] != nil:
		return "text that is not empty"
	case node["pattern"] != nil:
		return firstSentence(node)
	}
	return "a string"
}

// span puts the limits of a number into words.
func span(node map[string]any, lowest, highest string) string {
	low, high := node[lowest], node[highest]
	switch {
	case low != nil && high != nil:
		return fmt.Sprintf(" from %v to %v", low, high)
	case low != nil:
		return fmt.Sprintf(" of at least %v", low)
	case high != nil:
		return fmt.Sprintf(" of at most %v", high)
	}
	return ""
}

// firstSentence returns the first sentence of the description of a schema
// object. Where there is a pattern that sentence says what it allows.
func firstSentence(node map[string]any) string {
	text, _ := node["description"].(string)
	text, _, _ = strings.Cut(text, ". ")
	return strings.TrimSuffix(text, ".")
}

// describe says what a JSON value is.
func describe(value any) string {
	switch v := value.(type) {
	case nil:
		return "null"
	case bool:
		return strconv.FormatBool(v)
	case json.Number:
		return v.String()
	case string:
		return "the text " + quoteShort(v)
	case []any:
		return "an array"
	}
	return "an object"
}

func jsonPointer(tokens []string) string {
	var b strings.Builder
	escape := strings.NewReplacer("~", "~0", "/", "~1")
	for _, t := range tokens {
		b.WriteByte('/')
		b.WriteString(escape.Replace(t))
	}
	return b.String()
}

// nearest returns the known name that is at most two changed letters away from
// name, or "".
func nearest(name string, known []string) string {
	best, least := "", 3
	for _, k := range known {
		if d := editDistance(strings.ToLower(name), k); d < least && d < len(k) {
			best, least = k, d
		}
	}
	return best
}

// editDistance is the Levenshtein distance in bytes. Long names are cut: only
// small distances matter.
func editDistance(a, b string) int {
	a = a[:min(len(a), 64)]
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
