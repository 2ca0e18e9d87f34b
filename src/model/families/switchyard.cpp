// Our own dialect, for every model that no published one expresses.

#include "family.hpp"
#include "native_schema.hpp"

namespace switchyard::model {

const Family kSwitchyard = {"switchyard", "SwitchyardForCausalLM", read_architecture, architecture_json, {}};

}  // namespace switchyard::model
