package model

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

const tokenizerRemedy = `Convert it with "convert_tokenizer <folder with tokenizer.json> -o <this folder>" from the Python package openvino-tokenizers.`

// readTokenizer needs the tokenizer as an OpenVINO model. The token limit is the smaller of the text encoder's
// positions and the tokenizer's model_max_length.
func (m *Model) readTokenizer() error {
	const ir = "tokenizer/openvino_tokenizer.xml"
	component, info, err := m.component("tokenizer", "openvino_tokenizer.xml", "")
	if err != nil {
		if _, statErr := os.Stat(filepath.Join(m.Dir, filepath.FromSlash(ir))); errors.Is(statErr, fs.ErrNotExist) {
			e := invalid(ir, "", "the file is missing", "the tokenizer as an OpenVINO model")
			e.Advice = tokenizerRemedy
			return e
		}
		return err
	}
	m.Tokenizer = component
	m.TokenizerTruncates = strings.EqualFold(info["truncation"], "true")
	if len(component.Inputs) != 1 || component.Inputs[0].DType != "string" {
		e := invalid(ir, "", "the network does not take one input of strings", "a tokenizer made by openvino-tokenizers")
		e.Advice = tokenizerRemedy
		return e
	}
	special, err := m.tokenizerConfig()
	if err != nil {
		return err
	}
	return m.findPadToken(ir, info, special)
}

// tokenizerConfig applies tokenizer/tokenizer_config.json, which folders may lack, and returns its pad token.
func (m *Model) tokenizerConfig() (padToken string, err error) {
	const file = "tokenizer/tokenizer_config.json"
	if _, err := os.Stat(filepath.Join(m.Dir, filepath.FromSlash(file))); errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	c, err := m.readConfig(file)
	if err != nil {
		return "", err
	}
	return m.applyTokenizer(c)
}

func (m *Model) applyTokenizer(c config) (padToken string, err error) {
	if c.has("model_max_length") {
		// Tokenizers without a limit of their own carry 1e30.
		limit, err := get[float64](c, "model_max_length", "a number from 3")
		if err != nil {
			return "", err
		}
		if limit < 3 {
			return "", invalid(c.file, "model_max_length", "found "+short(c.values["model_max_length"]), "a number from 3")
		}
		m.MaxTokens = int(min(limit, float64(m.MaxTokens)))
	}
	return tokenText(c.values["pad_token"]), nil
}

// tokenText reads a special token, which is a text or an object with its "content".
func tokenText(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return s
	}
	var token struct {
		Content string `json:"content"`
	}
	if json.Unmarshal(raw, &token) != nil {
		return ""
	}
	return token.Content
}

// findPadToken takes the id that the converted tokenizer recorded, or looks the token up in the vocabulary.
func (m *Model) findPadToken(ir string, info map[string]string, padToken string) error {
	if id, err := strconv.ParseInt(info["pad_token_id"], 10, 64); err == nil && id >= 0 {
		m.PadToken = id
		return nil
	}
	if padToken != "" {
		for _, file := range []string{"tokenizer/vocab.json", "tokenizer/tokenizer.json"} {
			data, err := m.readFile(file)
			if err != nil {
				continue // either file will do
			}
			if id, ok := vocabularyID(data, padToken); ok {
				m.PadToken = id
				return nil
			}
		}
	}
	e := invalid(ir, "rt_info/pad_token_id", "it is missing, and tokenizer_config.json with vocab.json or tokenizer.json does not tell it",
		"the id of the token that pads prompts")
	e.Advice = tokenizerRemedy
	return e
}

// vocabularyID finds a token in vocab.json (token -> id) or tokenizer.json.
func vocabularyID(data []byte, token string) (int64, bool) {
	var file struct {
		AddedTokens []struct {
			ID      int64  `json:"id"`
			Content string `json:"content"`
		} `json:"added_tokens"`
		Model struct {
			Vocab map[string]int64 `json:"vocab"`
		} `json:"model"`
	}
	if json.Unmarshal(data, &file) == nil {
		for _, t := range file.AddedTokens {
			if t.Content == token {
				return t.ID, true
			}
		}
		if id, ok := file.Model.Vocab[token]; ok {
			return id, true
		}
	}
	var plain map[string]int64
	if json.Unmarshal(data, &plain) != nil {
		return 0, false
	}
	id, ok := plain[token]
	return id, ok
}
