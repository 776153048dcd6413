// Command kinds reads Kubernetes objects as YAML from standard input and decodes those of other projects' kinds into the types that
// those projects publish, strictly: an unknown field, a wrong type, or one field twice is an error. What it knows, and what Kubernetes
// itself has, is counted apart; anything else is an error. Must never accept a kind that it has no type for.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"

	certmanager "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	keda "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"k8s.io/apimachinery/pkg/util/yaml"
	gateway "sigs.k8s.io/gateway-api/apis/v1"
	strict "sigs.k8s.io/yaml"
)

var known = map[string]func() any{
	"cert-manager.io/v1 Certificate":          func() any { return new(certmanager.Certificate) },
	"gateway.networking.k8s.io/v1 HTTPRoute":  func() any { return new(gateway.HTTPRoute) },
	"keda.sh/v1alpha1 ScaledObject":           func() any { return new(keda.ScaledObject) },
	"monitoring.coreos.com/v1 PodMonitor":     func() any { return new(monitoring.PodMonitor) },
	"monitoring.coreos.com/v1 PrometheusRule": func() any { return new(monitoring.PrometheusRule) },
	"monitoring.coreos.com/v1 ServiceMonitor": func() any { return new(monitoring.ServiceMonitor) },
}

type head struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Name string `json:"name"`
	} `json:"metadata"`
}

func main() {
	decoded, failed := 0, 0
	documents := yaml.NewYAMLReader(bufio.NewReader(os.Stdin))
	for {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		var what head
		if err := strict.Unmarshal(document, &what); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		name := what.APIVersion + " " + what.Kind
		into, ok := known[name]
		if !ok {
			fmt.Printf("%s %s: no type for it\n", name, what.Metadata.Name)
			failed++
			continue
		}
		if err := strict.UnmarshalStrict(document, into()); err != nil {
			fmt.Printf("%s %s: %v\n", name, what.Metadata.Name, err)
			failed++
			continue
		}
		decoded++
	}
	fmt.Printf("%d decoded, %d failed\n", decoded, failed)
	if failed > 0 {
		os.Exit(1)
	}
}
