// Command schemaonly is a Terraform provider that knows what its resources look like and can do nothing: so `terraform validate`
// and `terraform test` with mocked providers run without a cloud and without the real providers. The file schema.json beside the
// executable says which provider it stands for. What only the real provider knows, such as which words an argument takes, is not
// checked.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"

	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/hashicorp/terraform-plugin-go/tfprotov6/tf6server"
	"github.com/hashicorp/terraform-plugin-go/tftypes"
)

// attribute is an argument or a result of a resource.
type attribute struct {
	Type      json.RawMessage `json:"type"`
	Nested    *nested         `json:"nested"`
	Required  bool            `json:"required"`
	Optional  bool            `json:"optional"`
	Computed  bool            `json:"computed"`
	Sensitive bool            `json:"sensitive"`
	WriteOnly bool            `json:"write_only"`
}

type nested struct {
	Nesting string `json:"nesting"`
	Block   block  `json:"block"`
	Min     int64  `json:"min"`
	Max     int64  `json:"max"`
}

type block struct {
	Attributes map[string]attribute `json:"attributes"`
	Blocks     map[string]nested    `json:"blocks"`
}

type file struct {
	Provider      string           `json:"provider"`
	Configuration block            `json:"configuration"`
	Resources     map[string]block `json:"resources"`
	DataSources   map[string]block `json:"data_sources"`
}

func names[T any](of map[string]T) []string {
	sorted := make([]string, 0, len(of))
	for name := range of {
		sorted = append(sorted, name)
	}
	sort.Strings(sorted)
	return sorted
}

func (a attribute) schema(name string) (*tfprotov6.SchemaAttribute, error) {
	made := &tfprotov6.SchemaAttribute{
		Name: name, Required: a.Required, Optional: a.Optional, Computed: a.Computed, Sensitive: a.Sensitive, WriteOnly: a.WriteOnly,
	}
	if a.Nested != nil {
		modes := map[string]tfprotov6.SchemaObjectNestingMode{
			"single": tfprotov6.SchemaObjectNestingModeSingle, "list": tfprotov6.SchemaObjectNestingModeList,
			"set": tfprotov6.SchemaObjectNestingModeSet, "map": tfprotov6.SchemaObjectNestingModeMap,
		}
		object := &tfprotov6.SchemaObject{Nesting: modes[a.Nested.Nesting]}
		for _, inner := range names(a.Nested.Block.Attributes) {
			attribute, err := a.Nested.Block.Attributes[inner].schema(inner)
			if err != nil {
				return nil, err
			}
			object.Attributes = append(object.Attributes, attribute)
		}
		made.NestedType = object
		return made, nil
	}
	of, err := tftypes.ParseJSONType(a.Type) //nolint:staticcheck // the only reader of this notation that there is
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	made.Type = of
	return made, nil
}

func (b block) schema() (*tfprotov6.SchemaBlock, error) {
	made := &tfprotov6.SchemaBlock{}
	for _, name := range names(b.Attributes) {
		attribute, err := b.Attributes[name].schema(name)
		if err != nil {
			return nil, err
		}
		made.Attributes = append(made.Attributes, attribute)
	}
	modes := map[string]tfprotov6.SchemaNestedBlockNestingMode{
		"single": tfprotov6.SchemaNestedBlockNestingModeSingle, "list": tfprotov6.SchemaNestedBlockNestingModeList,
		"set": tfprotov6.SchemaNestedBlockNestingModeSet,
	}
	for _, name := range names(b.Blocks) {
		inner := b.Blocks[name]
		content, err := inner.Block.schema()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		made.BlockTypes = append(made.BlockTypes, &tfprotov6.SchemaNestedBlock{
			TypeName: name, Block: content, Nesting: modes[inner.Nesting], MinItems: inner.Min, MaxItems: inner.Max,
		})
	}
	return made, nil
}

func schemas(of map[string]block) (map[string]*tfprotov6.Schema, error) {
	made := make(map[string]*tfprotov6.Schema, len(of))
	for name, block := range of {
		content, err := block.schema()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		made[name] = &tfprotov6.Schema{Block: content}
	}
	return made, nil
}

var errIncapable = errors.New("this provider only knows schemas: mock it")

// server answers what is asked about schemas; whatever else is asked ends the process, as the embedded interface is nil.
type server struct {
	tfprotov6.ProviderServer
	configuration *tfprotov6.Schema
	resources     map[string]*tfprotov6.Schema
	dataSources   map[string]*tfprotov6.Schema
}

func (s *server) GetMetadata(context.Context, *tfprotov6.GetMetadataRequest) (*tfprotov6.GetMetadataResponse, error) {
	answer := &tfprotov6.GetMetadataResponse{ServerCapabilities: &tfprotov6.ServerCapabilities{}}
	for _, name := range names(s.resources) {
		answer.Resources = append(answer.Resources, tfprotov6.ResourceMetadata{TypeName: name})
	}
	for _, name := range names(s.dataSources) {
		answer.DataSources = append(answer.DataSources, tfprotov6.DataSourceMetadata{TypeName: name})
	}
	return answer, nil
}

func (s *server) GetProviderSchema(context.Context, *tfprotov6.GetProviderSchemaRequest) (*tfprotov6.GetProviderSchemaResponse, error) {
	return &tfprotov6.GetProviderSchemaResponse{
		Provider: s.configuration, ResourceSchemas: s.resources, DataSourceSchemas: s.dataSources,
	}, nil
}

func (s *server) GetResourceIdentitySchemas(context.Context, *tfprotov6.GetResourceIdentitySchemasRequest) (*tfprotov6.GetResourceIdentitySchemasResponse, error) {
	return &tfprotov6.GetResourceIdentitySchemasResponse{}, nil
}

func (s *server) ValidateProviderConfig(_ context.Context, request *tfprotov6.ValidateProviderConfigRequest) (*tfprotov6.ValidateProviderConfigResponse, error) {
	return &tfprotov6.ValidateProviderConfigResponse{PreparedConfig: request.Config}, nil
}

func (s *server) ConfigureProvider(context.Context, *tfprotov6.ConfigureProviderRequest) (*tfprotov6.ConfigureProviderResponse, error) {
	return nil, errIncapable
}

func (s *server) StopProvider(context.Context, *tfprotov6.StopProviderRequest) (*tfprotov6.StopProviderResponse, error) {
	return &tfprotov6.StopProviderResponse{}, nil
}

func (s *server) ValidateResourceConfig(context.Context, *tfprotov6.ValidateResourceConfigRequest) (*tfprotov6.ValidateResourceConfigResponse, error) {
	return &tfprotov6.ValidateResourceConfigResponse{}, nil
}

func (s *server) ValidateDataResourceConfig(context.Context, *tfprotov6.ValidateDataResourceConfigRequest) (*tfprotov6.ValidateDataResourceConfigResponse, error) {
	return &tfprotov6.ValidateDataResourceConfigResponse{}, nil
}

// UpgradeResourceState gives back what a mocked apply put into the state.
func (s *server) UpgradeResourceState(_ context.Context, request *tfprotov6.UpgradeResourceStateRequest) (*tfprotov6.UpgradeResourceStateResponse, error) {
	schema, known := s.resources[request.TypeName]
	if !known {
		return nil, fmt.Errorf("no resource %s", request.TypeName)
	}
	of := schema.ValueType()
	value, err := request.RawState.Unmarshal(of)
	if err != nil {
		return nil, err
	}
	state, err := tfprotov6.NewDynamicValue(of, value)
	if err != nil {
		return nil, err
	}
	return &tfprotov6.UpgradeResourceStateResponse{UpgradedState: &state}, nil
}

func run() error {
	executable, err := os.Executable()
	if err != nil {
		return err
	}
	text, err := os.ReadFile(filepath.Join(filepath.Dir(executable), "schema.json"))
	if err != nil {
		return err
	}
	var from file
	if err := json.Unmarshal(text, &from); err != nil {
		return err
	}
	configuration, err := from.Configuration.schema()
	if err != nil {
		return err
	}
	resources, err := schemas(from.Resources)
	if err != nil {
		return err
	}
	dataSources, err := schemas(from.DataSources)
	if err != nil {
		return err
	}
	made := &server{configuration: &tfprotov6.Schema{Block: configuration}, resources: resources, dataSources: dataSources}
	return tf6server.Serve("registry.terraform.io/"+from.Provider, func() tfprotov6.ProviderServer { return made })
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
