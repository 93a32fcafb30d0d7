/* Random bytes for mbedTLS, which asks for them in two ways. */
#include "lib/tls_random.h"

#include <psa/crypto.h>

#include "lib/sys.h"

int tls_random(void *arg, unsigned char *out, size_t n)
{
    (void)arg;
    sys->random(out, n);
    return 0;
}

/* With MBEDTLS_PSA_CRYPTO_EXTERNAL_RNG the crypto core calls this. */
psa_status_t mbedtls_psa_external_get_random(mbedtls_psa_external_random_context_t *context,
                                             uint8_t *output, size_t output_size,
                                             size_t *output_length)
{
    (void)context;
    sys->random(output, output_size);
    *output_length = output_size;
    return PSA_SUCCESS;
}
