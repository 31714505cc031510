// What training costs the host.
#pragma once

#include "host/data/image_set.h"
#include "host/engine/bench.h"
#include "host/model/model.h"

namespace mnist::cpu {

// host_costs() of host/engine/bench.h: `repeats` epochs of each kind that are measured.
HostCosts host_costs(const Model& model, const Samples& training, const Samples& validation,
                     int batch_size, Math math, int repeats);

}  // namespace mnist::cpu
